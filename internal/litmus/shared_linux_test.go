package litmus

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"orbit/internal/proc"
)

func TestMain(m *testing.M) { proc.Main(m) }

func init() { proc.Helper("thread", thread) }

// mapped makes the file at path the bench of several processes.
func mapped(path string) (*bench, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	size := int(unsafe.Sizeof(bench{}))
	if err := file.Truncate(int64(size)); err != nil {
		return nil, err
	}
	mem, err := syscall.Mmap(int(file.Fd()), 0, size, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	if err != nil {
		return nil, err
	}
	return (*bench)(unsafe.Pointer(unsafe.SliceData(mem))), nil
}

// thread is one thread of a shape as a process: thread path shape number.
func thread(args []string) error {
	proc.WatchParent()
	b, err := mapped(args[0])
	shape, err1 := strconv.Atoi(args[1])
	number, err2 := strconv.Atoi(args[2])
	if err := errors.Join(err, err1, err2); err != nil {
		return err
	}
	b.work(&shapes[shape], number)
	return nil
}

func TestProcessesSeeNothingForbidden(t *testing.T) {
	for i := range shapes {
		s := &shapes[i]
		t.Run(s.name, func(t *testing.T) {
			path := filepath.Join("/dev/shm", "orbit-"+proc.Fleet(t)+"-litmus")
			b, err := mapped(path)
			if err != nil {
				t.Fatal(err)
			}
			var threads []*proc.Process
			for number := range s.threads {
				threads = append(threads, proc.Start(t, "thread", path, strconv.Itoa(i), strconv.Itoa(number)))
			}
			seen, ran, err := b.lead(s, timeOf(50*time.Millisecond), never)
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range threads {
				p.Finish()
			}
			t.Logf("%d runs", ran)
			if seen != 0 {
				t.Errorf("got %d of %d runs with %s, want none", seen, ran, s.forbidden)
			}
		})
	}
}
