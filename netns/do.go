package netns

// Do runs fn on a thread that is in the namespace and returns what fn returns. The
// thread comes home on every way out of fn: return, error, panic (which goes on in the
// caller with the same value), and [runtime.Goexit] (which also ends the caller's
// goroutine). A thread that cannot come home is destroyed and an *OpError joins the
// error of fn.
//
// fn runs on a goroutine and thread of its own while the caller waits, so the caller's
// thread never changes namespace; when that is in the namespace already, fn runs on it. Do may be nested: after an inner Do fn is in the
// outer namespace again. Goroutines that fn starts are NOT in the namespace, nor is
// what fn leaves running: libraries that start goroutines to make sockets, such as a
// [net.Dialer] given a host name, need [NS.DialContext] instead.
func (ns *NS) Do(fn func() error) error { return ns.do("do", fn) }
