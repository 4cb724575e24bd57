package netns

func (ns *NS) do(op string, fn func() error) error {
	return away(op, ns.object(), ns.enter, fn)
}
