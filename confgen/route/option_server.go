package route

import (
	"errors"
	"strings"
	"time"
)

func readMaxConn(r reading, value string) error {
	n, err := parseInt(value, 1, 1e6)
	r.wish.limits.MaxConn = int32(n) //nolint:gosec // At most a million.
	return err
}

// readBackup needs to know how servers are chosen: nginx has no backups where it hashes.
func readBackup(r reading, value string) error {
	backup, err := parseBool(value)
	if err != nil {
		return err
	}
	balance, sticky := strings.ToLower(r.wish.values["balance"]), strings.ToLower(r.wish.values["sticky"])
	chosen := balance != "" && balance != "roundrobin" && balance != "leastconn" || sticky != "" && sticky != "off"
	if backup && r.proxy == Nginx && chosen {
		return errors.New("nginx has backups only with balance roundrobin or leastconn, and not with sticky")
	}
	r.wish.limits.Backup = backup
	return nil
}

func readSlowStart(r reading, value string) (err error) {
	r.wish.limits.SlowStart, err = parseDuration(value)
	return err
}

// readDrain takes whole seconds: HAProxy says no finer since when a server gets nothing new.
func readDrain(r reading, value string) (err error) {
	r.Drain, err = parseDuration(value)
	if err == nil && r.Drain%time.Second != 0 {
		err = errors.New("write whole seconds, such as 30s")
	}
	return err
}

func readRetries(r reading, value string) error {
	n, err := parseInt(value, 0, 10)
	if err == nil {
		r.Retries = &n
	}
	return err
}

func readCompress(r reading, value string) (err error) {
	r.Compress, err = parseBool(value)
	return err
}
