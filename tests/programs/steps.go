// Numbered steps, as of steps.h.
package main

import (
	"fmt"
	"os"
	"sync"
)

var lock sync.Mutex

func note(format string, values ...interface{}) {
	lock.Lock()
	defer lock.Unlock()
	file, err := os.OpenFile(os.Getenv("STEPS_LOG"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		os.Exit(98)
	}
	fmt.Fprintf(file, format+"\n", values...)
	file.Close()
}

func check(good bool, format string, values ...interface{}) {
	if !good {
		note("FAIL "+format, values...)
		os.Exit(97)
	}
}

func stopping() bool {
	_, err := os.Stat(os.Getenv("STEPS_STOP"))
	return err == nil
}
