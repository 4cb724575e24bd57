package netns

func (ns *NS) pin(path string) error {
	if nameOf(path) != "" {
		return ns.publish(path)
	}
	return ns.bind(path, 0)
}

func unpin(path string) error {
	if nameOf(path) != "" {
		return removeNamed(nameOf(path))
	}
	// What is unmounted and unlinked has to be ours to take: a namespace.
	file, _, err := openFile(path)
	if err != nil {
		return err
	}
	_ = file.Close()
	return unbind(path)
}
