package proxy

import (
	"context"
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"syscall"
	"time"
	"unsafe"
)

// Processes that this package started and waits for by itself; the reaper leaves them alone.
var (
	startMu sync.RWMutex
	started sync.Map // process id → struct{}
)

// start runs cmd.Start so that the reaper cannot take the child before it is known.
func start(cmd *exec.Cmd) (release func(), err error) {
	startMu.RLock()
	defer startMu.RUnlock()
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	started.Store(cmd.Process.Pid, struct{}{})
	return func() { started.Delete(cmd.Process.Pid) }, nil
}

// Reap collects ended processes that nobody else waits for until ctx ends. As process 1 of a
// container, confgen inherits every orphan in it (nginx's old workers, for instance), and those
// would stay as zombies. Processes that were started through this package are left to those who
// wait for them; in a program that reaps, start children only that way (Child, Command).
func Reap(ctx context.Context) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGCHLD)
	defer signal.Stop(signals)
	for {
		again := reapOrphans()
		var retry <-chan time.Time
		if again {
			retry = time.After(10 * time.Millisecond)
		}
		select {
		case <-ctx.Done():
			return
		case <-signals:
		case <-retry:
		}
	}
}

// reapOrphans collects orphans until the next ended process is one that somebody waits for;
// then it wants to be called again, since others may stand behind it.
func reapOrphans() (again bool) {
	startMu.Lock()
	defer startMu.Unlock()
	for {
		pid := endedChild()
		if pid <= 0 {
			return false
		}
		if _, ours := started.Load(pid); ours {
			return true
		}
		var status syscall.WaitStatus
		if _, err := syscall.Wait4(pid, &status, syscall.WNOHANG, nil); err != nil {
			return false
		}
	}
}

// endedChild returns the id of some child that has ended, without collecting it; 0 for none.
func endedChild() int {
	const pAll, wExited, wNoWait = 0, 0x4, 0x01000000
	var info [32]int32 // siginfo_t, 128 bytes
	_, _, errno := syscall.Syscall6(syscall.SYS_WAITID, pAll, 0, uintptr(unsafe.Pointer(&info)),
		wExited|wNoWait|syscall.WNOHANG, 0, 0)
	if errno != 0 {
		return 0 // ECHILD: no children at all.
	}
	// si_pid follows si_signo, si_errno and si_code, and on 64 bits 4 bytes of padding.
	return int(info[2+unsafe.Sizeof(uintptr(0))/4])
}
