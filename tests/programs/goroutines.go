// Go with C in it: goroutines on several threads, a channel, timers, the collector, calls into C that block.
package main

// #include <unistd.h>
// static int twice(int n) { usleep(5000); return 2 * n; }
import "C"

import (
	"os"
	"runtime"
	"sync"
	"time"
)

func main() {
	var group sync.WaitGroup
	group.Add(4)
	items := make(chan int, 3)
	go func() {
		defer group.Done()
		for n := 1; !stopping(); n++ {
			items <- n
			note("p sent %d", n)
			time.Sleep(10 * time.Millisecond)
		}
		close(items)
	}()
	go func() {
		defer group.Done()
		want := 1
		for n := range items {
			check(n == want, "item %d instead of %d", n, want)
			note("p received %d", n)
			want++
		}
	}()
	go func() {
		defer group.Done()
		for n := 1; !stopping(); n++ {
			check(int(C.twice(C.int(n))) == 2*n, "C gives a wrong answer")
			note("p c %d", n)
		}
	}()
	go func() {
		defer group.Done()
		kept := map[int][]byte{}
		ticker := time.NewTicker(10 * time.Millisecond)
		for n := 1; !stopping(); n++ {
			<-ticker.C
			block := make([]byte, 100000)
			for i := range block {
				block[i] = byte(n)
			}
			kept[n%50] = block
			for key, old := range kept {
				check(int(old[0])%50 == int(old[len(old)-1])%50 && (n-key)%50 >= 0, "a block has changed")
			}
			if n%10 == 0 {
				runtime.GC()
			}
			note("p ticks %d", n)
		}
	}()
	group.Wait()
	note("DONE")
	os.Exit(7)
}
