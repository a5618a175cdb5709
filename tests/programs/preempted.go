// Go's run time makes its system calls past libc: a goroutine that never calls anything is preempted by a signal to its
// thread, by the id that the run time has noted. If that reaches nobody, the collector waits for ever.
package main

// #include <unistd.h>
// static int own_process(void) { return getpid(); }
import "C"

import (
	"os"
	"os/exec"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

var over int32
var turns [2]uint64

// Without a call in it, and so without a place at which it could be asked to stop.
func spin(n int) {
	for over == 0 {
		turns[n]++
	}
}

func main() {
	runtime.GOMAXPROCS(4)
	process := syscall.Getpid()
	for n := range turns {
		go spin(n)
	}
	var group sync.WaitGroup
	group.Add(2)
	go func() {
		defer group.Done()
		kept := map[int][]byte{}
		for n := 1; !stopping(); n++ {
			kept[n%20] = make([]byte, 100000)
			before := turns
			runtime.GC()
			_ = before
			note("p collections %d", n)
			time.Sleep(5 * time.Millisecond)
		}
	}()
	go func() {
		defer group.Done()
		runtime.LockOSThread()
		thread := syscall.Gettid()
		for n := 1; !stopping(); n++ {
			check(syscall.Gettid() == thread, "thread %d has become %d", thread, syscall.Gettid())
			check(syscall.Getpid() == process && int(C.own_process()) == process, "process %d is another one", process)
			check(syscall.Kill(process, 0) == nil, "process %d is not found", process)
			check(syscall.Tgkill(process, thread, 0) == nil, "thread %d is not found", thread)
			if n%10 == 0 {
				command := exec.Command("/bin/true")
				err := command.Run()
				check(err == nil, "a program cannot be executed: %v", err)
				check(command.Process.Pid > 0 && command.Process.Pid != process, "a child has no id")
			}
			note("p ids %d", n)
			time.Sleep(5 * time.Millisecond)
		}
	}()
	group.Wait()
	atomic.StoreInt32(&over, 1)
	note("DONE")
	os.Exit(7)
}
