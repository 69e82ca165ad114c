package main

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"time"

	"orbit"
)

const (
	sessionCookie = "session"
	sessionTTL    = time.Hour
)

// handler returns the pages. Each answer says which worker gave it.
func (w *worker) handler() http.Handler {
	mux := http.NewServeMux()
	for pattern, page := range map[string]func(http.ResponseWriter, *http.Request) error{
		"GET /{$}":     w.greet,
		"POST /login":  w.login,
		"POST /config": w.configure,
		"GET /health":  w.health,
	} {
		mux.HandleFunc(pattern, func(out http.ResponseWriter, r *http.Request) {
			w.requests.Add(1)
			w.busy.Add(1)
			defer w.busy.Add(-1)
			out.Header().Set("X-Worker", strconv.Itoa(os.Getpid()))
			if err := page(out, r); err != nil {
				http.Error(out, err.Error(), http.StatusInternalServerError)
			}
		})
	}
	return mux
}

// login begins a session. Who the user is, it believes.
func (w *worker) login(out http.ResponseWriter, r *http.Request) error {
	session := rand.Text()
	http.SetCookie(out, &http.Cookie{Name: sessionCookie, Value: session, HttpOnly: true, SameSite: http.SameSiteLaxMode})
	return w.sessions.Put(session, []byte(r.FormValue("user")), sessionTTL)
}

// greet greets the user of a session, whichever worker began it.
func (w *worker) greet(out http.ResponseWriter, r *http.Request) error {
	user := []byte("stranger")
	if cookie, err := r.Cookie(sessionCookie); err == nil {
		found, ok, err := w.sessions.Get(cookie.Value)
		if err != nil {
			return err
		}
		if ok {
			user = found
		}
	}
	_, err := fmt.Fprintf(out, "%s, %s!\n", *w.greeting.Load(), user)
	return err
}

// configure tells all workers, this one included, how to greet.
func (w *worker) configure(_ http.ResponseWriter, r *http.Request) error {
	_, err := w.bus.Publish(topicConfig, []byte(r.FormValue("greeting")))
	return err
}

// Health is the page for those who watch the server.
type Health struct {
	Workers   []WorkerHealth
	Scheduler orbit.Holder
	Report    Report
}

// WorkerHealth tells of a member whether its process lives, which is the
// kernel's word, and whether it works, which its heartbeat says.
type WorkerHealth struct {
	Node  uint16
	PID   int
	Since time.Time
	Fresh bool
	Load  Load
}

// health answers with status 503 unless all workers are there and fresh.
func (w *worker) health(out http.ResponseWriter, _ *http.Request) (err error) {
	h := Health{Report: w.report()}
	if h.Scheduler, _, err = orbit.HolderOf[Scheduler](w.contest, ""); err != nil {
		return err
	}
	members, err := w.fleet.Members()
	if err != nil {
		return err
	}
	fresh := 0
	for _, m := range members {
		load, _, loadErr := w.loads.LoadNode(m.Node)
		last, err := w.heart.Last(m.Node)
		switch err := errors.Join(loadErr, err); {
		case errors.Is(err, orbit.ErrNoFrame): // it has only just joined
		case err != nil:
			return err
		}
		// The last beat of a node may be that of the worker before.
		works := last.Age() < 4*beat && last > m.Since
		if works {
			fresh++
		}
		h.Workers = append(h.Workers, WorkerHealth{m.Node, m.PID, m.Since.Time(), works, load})
	}
	out.Header().Set("Content-Type", "application/json")
	if fresh < w.fleet.Size() {
		out.WriteHeader(http.StatusServiceUnavailable)
	}
	page := json.NewEncoder(out)
	page.SetIndent("", "  ")
	return page.Encode(h)
}
