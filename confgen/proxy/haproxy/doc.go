// Package haproxy speaks with a running HAProxy (2.6 and newer) and reads its configuration as
// far as the runtime socket can change it: servers and map entries. It starts no reload by itself
// and touches no file; package proxy decides when to do what.
//
// The rules it keeps were measured: a message stays below 8 KiB, a cut or late answer is an
// error, an unknown command is an error although HAProxy rates it as information, a connection
// lives for one look at one worker only, and nothing is believed before it has been read back.
package haproxy
