# Works from the event loop of Tcl.
set n 0
proc note {text} {
    set f [open $::env(STEPS_LOG) a]
    puts $f $text
    close $f
}
proc work {} {
    global n seen
    if {[file exists $::env(STEPS_STOP)]} {
        for {set i 1} {$i <= $n} {incr i} {
            if {$seen($i) != $i * $i} { note "FAIL entry $i" }
        }
        note DONE
        exit 7
    }
    incr n
    set seen($n) [expr {$n * $n}]
    note "p main $n"
    after 10 work
}
after 10 work
vwait forever
