package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"orbit"
)

// errStale: the ledger has seen a larger token.
var errStale = errors.New("token is stale")

// A Ledger is a list of results in a directory that refuses results of leaders
// who have had a successor. Entry n is the file named n and begins with the
// token of who wrote it. Tokens never get smaller along the list:
//
// a writer has looked at all entries before n and has found no larger token.
// It makes entry n complete or not at all, by a link, which fails if there is
// one already: then it looks at that too. No lock is held meanwhile, so a
// writer that is stopped is in nobody's way.
type Ledger struct {
	dir  string
	next int // all entries before this one have been looked at
}

// openLedger opens the ledger of this incarnation of the fleet.
func openLedger(dir string, fleet *orbit.Fleet) (*Ledger, error) {
	dir = filepath.Join(dir, fmt.Sprintf("%s-%016x", fleet.Name(), fleet.Incarnation()))
	return &Ledger{dir: dir, next: 1}, os.MkdirAll(dir, 0o700)
}

// Append writes a result as the next entry and returns its number.
func (l *Ledger) Append(token uint64, result string) (n int, err error) {
	draft, err := l.draft(fmt.Sprintf("%d %s\n", token, result))
	if err != nil {
		return 0, err
	}
	defer os.Remove(draft)
	for ; ; l.next++ {
		err := os.Link(draft, l.path(l.next))
		if err == nil {
			l.next++
			return l.next - 1, nil
		}
		if !errors.Is(err, fs.ErrExist) {
			return 0, err
		}
		seen, err := l.token(l.next)
		if err != nil {
			return 0, err
		}
		if seen > token {
			return 0, fmt.Errorf("%w: result refused: token %d, seen %d", errStale, token, seen)
		}
	}
}

// draft writes a file that is no entry yet.
func (l *Ledger) draft(text string) (name string, err error) {
	f, err := os.CreateTemp(l.dir, "draft-*")
	if err != nil {
		return "", err
	}
	_, err = f.WriteString(text)
	return f.Name(), errors.Join(err, f.Close())
}

// token returns the token of an entry.
func (l *Ledger) token(n int) (token uint64, err error) {
	text, err := os.ReadFile(l.path(n))
	if err != nil {
		return 0, err
	}
	if _, err := fmt.Sscan(string(text), &token); err != nil {
		return 0, fmt.Errorf("entry %d begins with no token: %q", n, text)
	}
	return token, nil
}

func (l *Ledger) path(n int) string { return filepath.Join(l.dir, fmt.Sprint(n)) }
