package netns

import "os"

func readSysctl(path string) (string, error) {
	b, err := os.ReadFile("/proc/sys/" + path)
	return string(b), cause(err)
}

func writeSysctl(path, value string) error {
	f, err := os.OpenFile("/proc/sys/"+path, os.O_WRONLY, 0)
	if err != nil {
		return cause(err)
	}
	_, err = f.WriteString(value)
	_ = f.Close()
	return cause(err)
}
