//go:build linux

package main

import (
	"errors"

	"go.etcd.io/bbolt"
)

// boltDB is a B-tree in a file, with transactions, in Go.
var boltDB = &peer{
	name:    "bbolt",
	class:   classLocal,
	notes:   []string{"one process at a time: its file lock keeps siblings out; a file in shared memory without sync; no TTL, nobody is woken"},
	serve:   func(*bench) (string, string, error) { return "", moduleVersion("go.etcd.io/bbolt"), nil },
	latest:  func(at place) (latest, error) { return openBolt(at) },
	store:   func(at place) (store, error) { return openBolt(at) },
	claimer: func(at place) (claimer, error) { return openBolt(at) },
	remove: func(at place) {
		if f, ok := boltFiles.take(at); ok {
			f.db.Close()
		}
	},
}

var boltFiles registry[*boltFile]

var boltBucket = []byte("facts")

type boltFile struct {
	noClose
	db *bbolt.DB
}

func openBolt(at place) (*boltFile, error) {
	return boltFiles.at(at, func() (*boltFile, error) {
		db, err := bbolt.Open(at.file(".bolt"), 0o600, &bbolt.Options{NoSync: true, NoFreelistSync: true})
		if err != nil {
			return nil, err
		}
		err = db.Update(func(tx *bbolt.Tx) error {
			_, err := tx.CreateBucketIfNotExists(boltBucket)
			return err
		})
		return &boltFile{db: db}, err
	})
}

func (f *boltFile) put(key string, value []byte) error {
	return f.db.Update(func(tx *bbolt.Tx) error { return tx.Bucket(boltBucket).Put([]byte(key), value) })
}

func (f *boltFile) get(key string, dst []byte) (value []byte, hit bool, err error) {
	err = f.db.View(func(tx *bbolt.Tx) error {
		stored := tx.Bucket(boltBucket).Get([]byte(key))
		value, hit = append(dst[:0], stored...), stored != nil
		return nil
	})
	return value, hit, err
}

func (f *boltFile) write(value []byte) error        { return f.put("latest", value) }
func (f *boltFile) read(dst []byte) ([]byte, error) { return readKey(f, "latest", dst) }

var errTaken = errors.New("taken")

func (f *boltFile) claim() (bool, error) {
	err := f.db.Update(func(tx *bbolt.Tx) error {
		b := tx.Bucket(boltBucket)
		if b.Get([]byte("nightly")) != nil {
			return errTaken
		}
		return b.Put([]byte("nightly"), held)
	})
	if err == errTaken {
		return false, nil
	}
	return err == nil, err
}

func (f *boltFile) release() error {
	return f.db.Update(func(tx *bbolt.Tx) error { return tx.Bucket(boltBucket).Delete([]byte("nightly")) })
}
