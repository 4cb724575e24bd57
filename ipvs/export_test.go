package ipvs

// EncodeService and its kin give the external tests the attributes' bytes as the kernel gets and sends them.
func EncodeService(s Service) []byte {
	var e encoder
	s.settle(nil)
	e.service(&s)
	return e.b
}

func DecodeService(b []byte) (Service, Stats, error) {
	var s Service
	var stats Stats
	b, err := find(b, attrService)
	if err == nil {
		err = decodeService(b, &s, &stats)
	}
	return s, stats, err
}

func EncodeDestination(d Destination) []byte {
	var e encoder
	e.destination(&d)
	return e.b
}

func DecodeDestination(b []byte, service Family) (Destination, DestinationStats, error) {
	var d Destination
	var stats DestinationStats
	b, err := find(b, attrDest)
	if err == nil {
		err = decodeDestination(b, service, &d, &stats)
	}
	return d, stats, err
}

// ListDestination decodes as a listing without counters does.
func ListDestination(b []byte, service Family) (Destination, error) {
	var d Destination
	b, err := find(b, attrDest)
	if err == nil {
		err = decodeDestination(b, service, &d, nil)
	}
	return d, err
}

// UsualDestination reports whether a listing finds the layout that it is quick with.
func UsualDestination(b []byte) bool {
	b, err := find(b, attrDest)
	return err == nil && decodeUsual(b, &Destination{})
}

// Memory is what a client remembers.
type Memory struct{ m memory }

func (m *Memory) Learn(s State)                 { m.m.learn(s) }
func (m *Memory) Note(k Key, s *Service)        { m.m.note(k, s) }
func (m *Memory) Forget(k Key)                  { m.m.forget(k) }
func (m *Memory) Lookup(k Key) (*Service, bool) { return m.m.lookup(k) }

func (s State) IsCanonical() bool { return s.canonical() }

var ParseConnections = parseConnections

// DaemonRoundTrip encodes and decodes a daemon.
func DaemonRoundTrip(d Daemon) (Daemon, error) {
	var e encoder
	d = d.canonical()
	e.daemon(&d)
	b, err := find(e.b, attrDaemon)
	if err != nil {
		return Daemon{}, err
	}
	return decodeDaemon(b)
}

func DecodeDaemon(b []byte) (Daemon, error) { return decodeDaemon(b) }
