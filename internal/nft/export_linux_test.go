package nft

import "slices"

// Decode walks a datagram of the kernel as the readers do and returns the
// elements in it.
func Decode(b []byte) (list []Element) {
	messages(b, func(m message) {
		_ = m.err()
		attrs(m.data, func(_ uint16, data []byte) {
			findUdataString(data, udElemComment)
			attrs(data, func(_ uint16, data []byte) { list = append(list, decodeElement(data)) })
		})
	})
	return list
}

// Encode is a datagram that lists elements.
func Encode(t *Table, s *Set, list []Element) []byte {
	b := NewBatch()
	b.AddElements(t, s, list)
	data, _ := b.finish(0)
	return slices.Concat(data...)
}
