package netns

import "strings"

// Sysctl reads a setting of this namespace, such as net.ipv4.ip_forward, without the
// final newline. The key is written as in sysctl(8): with dots, where a slash stands
// for a dot inside a name (net.ipv4.conf.eth0/100.forwarding), or with slashes
// (net/ipv4/conf/eth0.100/forwarding). Keys that do not begin with net, or that leave
// the tree, give an error that Is [fs.ErrInvalid]; a setting or link that does not
// exist one that Is [fs.ErrNotExist].
func (ns *NS) Sysctl(key string) (string, error) {
	path, err := sysctlPath(key)
	if err != nil {
		return "", opError(opRead, key, err)
	}
	var value string
	err = ns.do(opRead, func() (err error) {
		value, err = readSysctl(path)
		return err
	})
	if err != nil {
		return "", opError(opRead, key, err)
	}
	return strings.TrimSuffix(value, "\n"), nil
}

// SetSysctl writes a setting of this namespace. The key is as in [NS.Sysctl].
func (ns *NS) SetSysctl(key, value string) error {
	path, err := sysctlPath(key)
	if err != nil {
		return opError(opWrite, key, err)
	}
	err = ns.do(opWrite, func() error { return writeSysctl(path, value) })
	if err != nil {
		return opError(opWrite, key, err)
	}
	return nil
}
