package route

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

const maxPrefixes = 100

// readPrefixes takes a list of addresses and of ranges of them. One that cannot be read spoils
// the list: without it somebody could come in, or be kept out, whom the label does not mean.
func readPrefixes(value string) ([]netip.Prefix, error) {
	var list []netip.Prefix
	for _, item := range splitList(value) {
		prefix, err := readPrefix(item)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(list, prefix) {
			list = append(list, prefix)
		}
	}
	if len(list) == 0 || len(list) > maxPrefixes {
		return nil, fmt.Errorf("write 1 to %d addresses or ranges, such as 10.0.0.0/8,192.0.2.7", maxPrefixes)
	}
	return list, nil
}

func readPrefix(s string) (netip.Prefix, error) {
	var prefix netip.Prefix
	var err error
	if strings.Contains(s, "/") {
		prefix, err = netip.ParsePrefix(s)
	} else {
		var ip netip.Addr
		ip, err = netip.ParseAddr(s)
		prefix = netip.PrefixFrom(ip, ip.BitLen())
	}
	switch {
	case err != nil, prefix.Addr().Zone() != "":
		return netip.Prefix{}, fmt.Errorf("%s is neither an address nor a range like 10.0.0.0/8", quote(s))
	case prefix.Addr().Is4In6():
		return netip.Prefix{}, errors.New("write an IPv4 address in its own form")
	case prefix != prefix.Masked():
		return netip.Prefix{}, fmt.Errorf("%s has bits behind its mask; the range is %s", s, prefix.Masked())
	}
	return prefix, nil
}
