//go:build linux

package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"orbit"
	"orbit/internal/proc"
)

func init() {
	proc.Helper("prefork", func([]string) error { main(); return nil })
	proc.Helper("refused", func([]string) error {
		flag.Parse()
		fmt.Println(supervise())
		return nil
	})
}

func TestMain(m *testing.M) { proc.Main(m) }

// A server is a supervisor with its workers, and a client of it that makes a
// connection for each request.
type server struct {
	*proc.Process
	t      *testing.T
	fleet  string
	url    string
	client http.Client
	cookie *http.Cookie
}

const workers = 3

func start(t *testing.T) *server {
	t.Helper()
	s := &server{t: t, fleet: proc.Fleet(t)}
	s.Process = proc.Start(t, "prefork", "-fleet", s.fleet, "-addr", "127.0.0.1:0", "-n", fmt.Sprint(workers))
	if _, err := fmt.Sscanf(s.Line(), "serving %s with", &s.url); err != nil {
		t.Fatal(err)
	}
	s.client = http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 30 * time.Second}
	s.until("all workers are fresh", func() bool { return s.healthy() != nil })
	return s
}

// until polls until a condition holds.
func (s *server) until(what string, holds func() bool) {
	s.t.Helper()
	for end := time.Now().Add(60 * time.Second); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			s.t.Fatalf("never came true: %s", what)
		}
	}
}

// try makes a request, and returns who answered, and what.
func (s *server) try(method, path string, form url.Values) (worker int, body string, r *http.Response, err error) {
	request, err := http.NewRequest(method, s.url+path, strings.NewReader(form.Encode()))
	if err != nil {
		return 0, "", nil, err
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if s.cookie != nil {
		request.AddCookie(s.cookie)
	}
	if r, err = s.client.Do(request); err != nil {
		return 0, "", nil, err
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return 0, "", nil, err
	}
	worker, err = strconv.Atoi(r.Header.Get("X-Worker"))
	return worker, string(b), r, err
}

// do is try for a request that must succeed.
func (s *server) do(method, path string, form url.Values) (worker int, body string, r *http.Response) {
	s.t.Helper()
	worker, body, r, err := s.try(method, path, form)
	if err != nil {
		s.t.Fatal(err)
	}
	if r.StatusCode != http.StatusOK {
		s.t.Fatalf("%s %s: got status %d from worker %d: %s", method, path, r.StatusCode, worker, body)
	}
	return worker, body, r
}

// healthy returns the health if that is good, and nil otherwise.
func (s *server) healthy() *Health {
	_, body, r, err := s.try("GET", "health", nil)
	if err != nil || r.StatusCode != http.StatusOK {
		return nil
	}
	var h Health
	if err := json.Unmarshal([]byte(body), &h); err != nil {
		s.t.Fatalf("got %q: %v", body, err)
	}
	if len(h.Workers) != workers || h.Scheduler.PID == 0 || h.Report.Token != h.Scheduler.Token {
		return nil // just changing
	}
	return &h
}

// wantGreeting wants that all workers answer with the greeting. Until they do
// they may still answer with the one before, if there was one.
func (s *server) wantGreeting(want, before string) {
	s.t.Helper()
	took := map[int]bool{}
	s.until("all workers greet with "+want, func() bool {
		worker, got, _ := s.do("GET", "", nil)
		switch got = strings.TrimSpace(got); {
		case got == want:
			took[worker] = true
		case got != before || took[worker]:
			s.t.Fatalf("got %q from worker %d, want %q", got, worker, want)
		}
		return len(took) == workers
	})
}

func (s *server) login(user string) {
	s.t.Helper()
	_, _, r := s.do("POST", "login", url.Values{"user": {user}})
	if len(r.Cookies()) != 1 {
		s.t.Fatalf("got cookies %v, want one", r.Cookies())
	}
	s.cookie = r.Cookies()[0]
}

// killWorker kills a worker that is the scheduler, or one that is not, and
// returns the health before, and after it was replaced.
func (s *server) killWorker(scheduler bool) (before, after *Health) {
	s.t.Helper()
	s.until("all is well", func() bool { before = s.healthy(); return before != nil })
	victim := 0
	for _, w := range before.Workers {
		if (w.PID == before.Scheduler.PID) == scheduler {
			victim = w.PID
		}
	}
	if err := syscall.Kill(victim, syscall.SIGKILL); err != nil {
		s.t.Fatal(err)
	}
	s.until("the killed process is gone", func() bool { return syscall.Kill(victim, 0) != nil })
	for range 30 {
		if _, got, _ := s.do("GET", "", nil); got != "Moin, ann!\n" {
			s.t.Fatalf("got %q after a worker was killed, want %q", got, "Moin, ann!\n")
		}
	}
	s.until("a killed worker is replaced", func() bool { after = s.healthy(); return after != nil && !has(after, victim) })
	return before, after
}

func has(h *Health, pid int) bool {
	for _, w := range h.Workers {
		if w.PID == pid {
			return true
		}
	}
	return false
}

// wantNothingLeft wants that no process and no segment is left, soon.
func (s *server) wantNothingLeft(pids []WorkerHealth) {
	s.t.Helper()
	s.until("the fleet is removed", func() bool {
		_, err := orbit.Observe(s.fleet)
		return errors.Is(err, orbit.ErrNotExist)
	})
	for _, w := range pids {
		s.until("no worker runs", func() bool { return ended(w.PID) })
	}
}

// ended tells whether a process is no more, or only a zombie that nobody has
// waited for.
func ended(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || strings.Contains(string(stat), ") Z ")
}

func TestWorkersShareSessionsConfigurationAndAScheduler(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.login("ann")
	s.wantGreeting("Hello, ann!", "")
	s.do("POST", "config", url.Values{"greeting": {"Moin"}})
	s.wantGreeting("Moin, ann!", "Hello, ann!")

	before, after := s.killWorker(false)
	if after.Scheduler.Token < before.Scheduler.Token {
		t.Errorf("got a scheduler with token %d after one with %d", after.Scheduler.Token, before.Scheduler.Token)
	}
	s.wantGreeting("Moin, ann!", "") // also from the new worker, from the first on

	before, after = s.killWorker(true)
	if after.Scheduler.PID == before.Scheduler.PID || after.Scheduler.Token <= before.Scheduler.Token {
		t.Errorf("got scheduler %+v after %+v was killed, want another with a larger token", after.Scheduler, before.Scheduler)
	}
	if after.Report.Sessions != 1 {
		t.Errorf("got a report of %d sessions, want 1", after.Report.Sessions)
	}
	s.wantGreeting("Moin, ann!", "")

	s.Process.Process.Signal(syscall.SIGTERM)
	s.Finish()
	s.wantNothingLeft(after.Workers)
}

func TestShutdownFinishesTheRequestsAtWork(t *testing.T) {
	t.Parallel()
	s := start(t)
	conn, err := net.Dial("tcp", strings.Trim(s.url, "htp:/"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "POST /login HTTP/1.1\r\nHost: x\r\nConnection: close\r\nExpect: 100-continue\r\n"+
		"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 8\r\n\r\n")
	conn.SetReadDeadline(time.Now().Add(60 * time.Second))
	answers := bufio.NewReader(conn)
	if line, err := answers.ReadString('\n'); line != "HTTP/1.1 100 Continue\r\n" {
		t.Fatalf("got %q, error %v, want that the page asks for the form", line, err)
	}
	fmt.Fprint(conn, "user")
	s.Process.Process.Signal(syscall.SIGTERM)
	s.until("no worker takes new connections", func() bool {
		_, _, _, err := s.try("GET", "", nil)
		return errors.Is(err, syscall.ECONNREFUSED)
	})
	fmt.Fprint(conn, "=ann")
	answer, err := io.ReadAll(answers)
	if !strings.HasPrefix(string(answer), "\r\nHTTP/1.1 200 OK\r\n") || err != nil {
		t.Errorf("got answer %q, error %v, want status 200", answer, err)
	}
	s.Finish()
	s.wantNothingLeft(nil)
}

func TestWorkersLeaveWhenTheSupervisorIsKilled(t *testing.T) {
	t.Parallel()
	s := start(t)
	var h *Health
	s.until("all is well", func() bool { h = s.healthy(); return h != nil })
	s.Kill()
	s.Died(syscall.SIGKILL)
	s.wantNothingLeft(h.Workers)
}

func TestSecondServerIsRefused(t *testing.T) {
	t.Parallel()
	s := start(t)
	for _, c := range []struct{ fleet, addr, want string }{
		{s.fleet, "127.0.0.1:0", "in use: node"},
		{proc.Fleet(t), strings.Trim(s.url, "htp:/"), "address already in use"},
	} {
		p := proc.Start(t, "refused", "-fleet", c.fleet, "-addr", c.addr)
		if got := p.Line(); !strings.Contains(got, c.want) {
			t.Errorf("got %q, want %q in it", got, c.want)
		}
		p.Finish()
	}
	s.until("the first server is well", func() bool { return s.healthy() != nil })
}

func TestNewWorkerBeginsWithTheNewestConfiguration(t *testing.T) {
	fleet, err := orbit.Local("config", orbit.Options{Size: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer fleet.Close()
	for _, want := range []string{"Hello", "Moin", "Servus"} {
		w, err := newWorker(fleet)
		if err != nil {
			t.Fatal(err)
		}
		if want != "Hello" { // which is what they begin with if nobody said more
			if _, err := w.bus.Publish(topicConfig, []byte(want)); err != nil {
				t.Fatal(err)
			}
			if w, err = newWorker(fleet); err != nil {
				t.Fatal(err)
			}
		}
		if got := *w.greeting.Load(); got != want {
			t.Errorf("got greeting %q, want %q", got, want)
		}
	}
}
