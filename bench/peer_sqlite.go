//go:build linux

package main

import (
	"database/sql"
	"errors"
	"io"

	_ "modernc.org/sqlite" // the driver
)

// sqlite is a database in a file, translated to Go.
var sqlite = &peer{
	name:    "SQLite",
	class:   classFile,
	notes:   []string{"translated to Go (modernc.org/sqlite), WAL mode; a file in shared memory without sync, so not durable here; no TTL, nobody is woken; one writer at a time"},
	serve:   func(*bench) (string, string, error) { return "", moduleVersion("modernc.org/sqlite"), nil },
	latest:  func(at place) (latest, error) { return openSQLite(at) },
	store:   func(at place) (store, error) { return openSQLite(at) },
	claimer: func(at place) (claimer, error) { return openSQLite(at) },
	join:    func(at place) (io.Closer, error) { return openSQLite(at) },
}

// sqliteFile is one connection with its statements.
type sqliteFile struct {
	*sql.DB
	upsert, query, insert, remove *sql.Stmt
}

func openSQLite(at place) (*sqliteFile, error) {
	db, err := sql.Open("sqlite", "file:"+at.file(".sqlite")+
		"?_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=synchronous(OFF)&_txlock=immediate")
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	f := &sqliteFile{DB: db}
	if err := f.prepare(); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return f, nil
}

func (f *sqliteFile) prepare() error {
	if _, err := f.Exec("CREATE TABLE IF NOT EXISTS facts (key TEXT PRIMARY KEY, value BLOB) WITHOUT ROWID"); err != nil {
		return err
	}
	for _, s := range []struct {
		at   **sql.Stmt
		text string
	}{
		{&f.upsert, "INSERT INTO facts VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value"},
		{&f.query, "SELECT value FROM facts WHERE key = ?"},
		{&f.insert, "INSERT INTO facts VALUES ('nightly', x'01') ON CONFLICT DO NOTHING"},
		{&f.remove, "DELETE FROM facts WHERE key = 'nightly'"},
	} {
		var err error
		if *s.at, err = f.Prepare(s.text); err != nil {
			return err
		}
	}
	return nil
}

func (f *sqliteFile) put(key string, value []byte) error {
	_, err := f.upsert.Exec(key, value)
	return err
}

func (f *sqliteFile) get(key string, dst []byte) ([]byte, bool, error) {
	dst = dst[:0]
	err := f.query.QueryRow(key).Scan(&dst)
	if errors.Is(err, sql.ErrNoRows) {
		return dst, false, nil
	}
	return dst, err == nil, err
}

func (f *sqliteFile) write(value []byte) error        { return f.put("latest", value) }
func (f *sqliteFile) read(dst []byte) ([]byte, error) { return readKey(f, "latest", dst) }

func (f *sqliteFile) claim() (bool, error) { return changed(f.insert) }

func (f *sqliteFile) release() error {
	gone, err := changed(f.remove)
	if err == nil && !gone {
		err = errors.New("sqlite: the claim was gone")
	}
	return err
}

// changed runs a statement and tells whether it changed a row.
func changed(s *sql.Stmt) (bool, error) {
	r, err := s.Exec()
	if err != nil {
		return false, err
	}
	n, err := r.RowsAffected()
	return n == 1, err
}
