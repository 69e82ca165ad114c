//go:build linux && cgo

package main

/*
#cgo LDFLAGS: -ldl
#include <dlfcn.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

// What we need of the interface of LMDB 0.9, which has been the same since
// 2011. The library is looked for when the program runs, so that it is built
// and vetted without it.
typedef struct { size_t size; void *data; } val;
typedef unsigned int dbi;
static int (*env_create)(void **), (*env_set_mapsize)(void *, size_t);
static int (*env_open)(void *, const char *, unsigned, unsigned);
static void (*env_close)(void *);
static int (*txn_begin)(void *, void *, unsigned, void **), (*txn_commit)(void *);
static void (*txn_abort)(void *), (*txn_reset)(void *);
static int (*txn_renew)(void *);
static int (*dbi_open)(void *, const char *, unsigned, dbi *);
static int (*db_get)(void *, dbi, val *, val *), (*db_put)(void *, dbi, val *, val *, unsigned), (*db_del)(void *, dbi, val *, val *);
static char *(*version)(int *, int *, int *), *(*strerr)(int);

static const char *load(void) {
	void *h = dlopen("liblmdb.so.0", RTLD_NOW);
	if (!h) h = dlopen("liblmdb.so", RTLD_NOW);
	if (!h) return dlerror();
	struct { void *at; const char *name; } all[] = {
		{&env_create, "mdb_env_create"}, {&env_set_mapsize, "mdb_env_set_mapsize"}, {&env_open, "mdb_env_open"},
		{&env_close, "mdb_env_close"}, {&txn_begin, "mdb_txn_begin"}, {&txn_commit, "mdb_txn_commit"},
		{&txn_abort, "mdb_txn_abort"}, {&txn_reset, "mdb_txn_reset"}, {&txn_renew, "mdb_txn_renew"},
		{&dbi_open, "mdb_dbi_open"}, {&db_get, "mdb_get"}, {&db_put, "mdb_put"}, {&db_del, "mdb_del"},
		{&version, "mdb_version"}, {&strerr, "mdb_strerror"},
	};
	for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
		void *f = dlsym(h, all[i].name);
		if (!f) return all[i].name;
		memcpy(all[i].at, &f, sizeof f);
	}
	return NULL;
}

enum { NOSUBDIR = 0x4000, NOSYNC = 0x10000, RDONLY = 0x20000, WRITEMAP = 0x80000, NOTLS = 0x200000, NOOVERWRITE = 0x10 };

typedef struct { void *env, *reader; dbi dbi; size_t len; } db;

static int open_db(const char *path, size_t size, db *d) {
	int rc = env_create(&d->env);
	if (rc) return rc;
	void *txn;
	if ((rc = env_set_mapsize(d->env, size)) ||
	    (rc = env_open(d->env, path, NOSUBDIR | NOSYNC | WRITEMAP | NOTLS, 0600)) ||
	    (rc = txn_begin(d->env, NULL, 0, &txn)) ||
	    (rc = dbi_open(txn, NULL, 0, &d->dbi)) ||
	    (rc = txn_commit(txn)) ||
	    (rc = txn_begin(d->env, NULL, RDONLY, &d->reader))) {
		env_close(d->env);
		return rc;
	}
	txn_reset(d->reader);
	return 0;
}

static void close_db(db *d) {
	txn_abort(d->reader);
	env_close(d->env);
}

// The length of what was found is in d->len.
static int get(db *d, void *key, size_t klen, void *dst, size_t room) {
	val k = {klen, key}, v;
	int rc = txn_renew(d->reader);
	if (rc) return rc;
	if (!(rc = db_get(d->reader, d->dbi, &k, &v))) {
		d->len = v.size < room ? v.size : room;
		memcpy(dst, v.data, d->len);
	}
	txn_reset(d->reader);
	return rc;
}

// A transaction that writes belongs to a thread, hence one call for all of it.
static int change(db *d, void *key, size_t klen, void *data, size_t len, unsigned flags) {
	val k = {klen, key}, v = {len, data};
	void *txn;
	int rc = txn_begin(d->env, NULL, 0, &txn);
	if (rc) return rc;
	rc = data ? db_put(txn, d->dbi, &k, &v, flags) : db_del(txn, d->dbi, &k, NULL);
	if (rc) {
		txn_abort(txn);
		return rc;
	}
	return txn_commit(txn);
}

static char *lmdb_version(void) { return version(NULL, NULL, NULL); }
static char *lmdb_error(int rc) { return strerr(rc); }
*/
import "C"

import (
	"errors"
	"io"
	"strings"
	"sync"
	"unsafe"
)

// lmdb is a B-tree in a mapped file, with transactions.
var lmdb = &peer{
	name:  "LMDB",
	class: classFile,
	notes: []string{
		"through cgo; a file in shared memory without sync, so not durable here; no TTL, nobody is woken; one writer at a time",
	},
	serve:   serveLMDB,
	latest:  func(at place) (latest, error) { return openLMDB(at) },
	store:   func(at place) (store, error) { return openLMDB(at) },
	claimer: func(at place) (claimer, error) { return openLMDB(at) },
	join:    func(at place) (io.Closer, error) { return openLMDB(at) },
	scale:   true,
	sweep:   true,
}

var loadLMDB = sync.OnceValue(func() error {
	if reason := C.load(); reason != nil {
		return errors.New(C.GoString(reason) + " (Debian: liblmdb0)")
	}
	return nil
})

func serveLMDB(*bench) (string, string, error) {
	if err := loadLMDB(); err != nil {
		return "", "", err
	}
	text := strings.TrimPrefix(C.GoString(C.lmdb_version()), "LMDB ")
	version, _, _ := strings.Cut(text, ":")
	return "", version, nil
}

type lmdbFile struct {
	db *C.db // in memory of C, for it holds pointers
}

const (
	lmdbExists   = -30799
	lmdbNotFound = -30798
)

func lmdbError(rc C.int) error {
	if rc == 0 {
		return nil
	}
	return errors.New("lmdb: " + C.GoString(C.lmdb_error(rc)))
}

func openLMDB(at place) (*lmdbFile, error) {
	if err := loadLMDB(); err != nil {
		return nil, err
	}
	path := C.CString(at.file(".lmdb"))
	defer C.free(unsafe.Pointer(path))
	f := &lmdbFile{(*C.db)(C.calloc(1, C.sizeof_db))}
	err := lmdbError(C.open_db(path, 64<<20, f.db))
	if err != nil {
		C.free(unsafe.Pointer(f.db))
		return nil, err
	}
	return f, nil
}

func (f *lmdbFile) Close() error {
	C.close_db(f.db)
	C.free(unsafe.Pointer(f.db))
	return nil
}

func (f *lmdbFile) change(key string, value []byte, flags C.uint) C.int {
	return C.change(f.db, unsafe.Pointer(unsafe.StringData(key)), C.size_t(len(key)),
		unsafe.Pointer(unsafe.SliceData(value)), C.size_t(len(value)), flags)
}

func (f *lmdbFile) put(key string, value []byte) error { return lmdbError(f.change(key, value, 0)) }

func (f *lmdbFile) get(key string, dst []byte) ([]byte, bool, error) {
	rc := C.get(f.db, unsafe.Pointer(unsafe.StringData(key)), C.size_t(len(key)), unsafe.Pointer(unsafe.SliceData(dst)), C.size_t(cap(dst)))
	if rc == lmdbNotFound {
		return dst[:0], false, nil
	}
	return dst[:f.db.len], rc == 0, lmdbError(rc)
}

func (f *lmdbFile) write(value []byte) error        { return f.put("latest", value) }
func (f *lmdbFile) read(dst []byte) ([]byte, error) { return readKey(f, "latest", dst) }

func (f *lmdbFile) claim() (bool, error) {
	rc := f.change("nightly", held, C.NOOVERWRITE)
	if rc == lmdbExists {
		return false, nil
	}
	return rc == 0, lmdbError(rc)
}

func (f *lmdbFile) release() error { return lmdbError(f.change("nightly", nil, 0)) }
