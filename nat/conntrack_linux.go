package nat

import (
	"net/netip"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

func execute(nl *netlink.Conn, typ netlink.HeaderType, flags netlink.HeaderFlags, family netip.Addr, ae *netlink.AttributeEncoder) ([]netlink.Message, error) {
	data, err := ae.Encode()
	if err != nil {
		return nil, err
	}
	fam := byte(unix.AF_INET)
	if family.Is6() {
		fam = unix.AF_INET6
	}
	// Version 1 makes a deletion heed the family.
	return nl.Execute(netlink.Message{
		Header: netlink.Header{Type: typ, Flags: flags},
		Data:   append([]byte{fam, 1, 0, 0}, data...),
	})
}

// tuple is one direction of a connection.
type tuple struct {
	src, dst netip.AddrPort
	proto    Proto
}

func encodeTuple(ae *netlink.AttributeEncoder, t tuple) {
	ae.Nested(ctaTupleIP, func(ae *netlink.AttributeEncoder) error {
		src, dst := uint16(ctaIPv4Src), uint16(ctaIPv4Dst)
		if t.src.Addr().Is6() || t.dst.Addr().Is6() {
			src, dst = ctaIPv6Src, ctaIPv6Dst
		}
		if t.src.IsValid() {
			ae.Bytes(src, t.src.Addr().AsSlice())
		}
		if t.dst.IsValid() {
			ae.Bytes(dst, t.dst.Addr().AsSlice())
		}
		return nil
	})
	ae.Nested(ctaTupleProto, func(ae *netlink.AttributeEncoder) error {
		ae.Uint8(ctaProtoNum, uint8(t.proto))
		if p := t.src.Port(); p != 0 {
			ae.Bytes(ctaSrcPort, []byte{byte(p >> 8), byte(p)})
		}
		if p := t.dst.Port(); p != 0 {
			ae.Bytes(ctaDstPort, []byte{byte(p >> 8), byte(p)})
		}
		return nil
	})
}

// listFlows lists connections, filtered by the kernel where it can (5.8).
func listFlows(nl *netlink.Conn, family netip.Addr, proto Proto, port uint16) ([]netlink.Message, error) {
	ae := netlink.NewAttributeEncoder()
	ae.Nested(ctaTupleOrig, func(ae *netlink.AttributeEncoder) error {
		ae.Nested(ctaTupleProto, func(ae *netlink.AttributeEncoder) error {
			ae.Uint8(ctaProtoNum, uint8(proto))
			if port != 0 {
				ae.Bytes(ctaDstPort, []byte{byte(port >> 8), byte(port)})
			}
			return nil
		})
		return nil
	})
	flags := uint32(matchProtoNum)
	if port != 0 {
		flags |= matchDstPort
	}
	ae.Nested(ctaFilter, func(ae *netlink.AttributeEncoder) error {
		ae.Uint32(ctaFilterOrigFlags, flags)
		ae.Uint32(ctaFilterReplyFlags, 0)
		return nil
	})
	list, err := execute(nl, ctGet, netlink.Request|netlink.Dump, family, ae)
	if noFilter(err) {
		list, err = execute(nl, ctGet, netlink.Request|netlink.Dump, family, netlink.NewAttributeEncoder())
	}
	return list, err
}

func decodeConnection(b []byte) (orig, reply tuple, ok bool) {
	if len(b) < 4 {
		return orig, reply, false
	}
	ad, err := netlink.NewAttributeDecoder(b[4:])
	if err != nil {
		return orig, reply, false
	}
	for ad.Next() {
		switch ad.Type() {
		case ctaTupleOrig:
			ad.Nested(decodeTuple(&orig))
		case ctaTupleReply:
			ad.Nested(decodeTuple(&reply))
		}
	}
	return orig, reply, ad.Err() == nil && orig.dst.IsValid() && reply.src.IsValid()
}

func decodeTuple(t *tuple) func(*netlink.AttributeDecoder) error {
	return func(ad *netlink.AttributeDecoder) error {
		var src, dst netip.Addr
		var sport, dport uint16
		for ad.Next() {
			switch ad.Type() {
			case ctaTupleIP:
				ad.Nested(func(ad *netlink.AttributeDecoder) error {
					for ad.Next() {
						switch ad.Type() {
						case ctaIPv4Src, ctaIPv6Src:
							src, _ = netip.AddrFromSlice(ad.Bytes())
						case ctaIPv4Dst, ctaIPv6Dst:
							dst, _ = netip.AddrFromSlice(ad.Bytes())
						}
					}
					return nil
				})
			case ctaTupleProto:
				ad.Nested(func(ad *netlink.AttributeDecoder) error {
					for ad.Next() {
						switch b := ad.Bytes(); {
						case ad.Type() == ctaProtoNum && len(b) == 1:
							t.proto = Proto(b[0])
						case ad.Type() == ctaSrcPort && len(b) == 2:
							sport = uint16(b[0])<<8 | uint16(b[1])
						case ad.Type() == ctaDstPort && len(b) == 2:
							dport = uint16(b[0])<<8 | uint16(b[1])
						}
					}
					return nil
				})
			}
		}
		t.src, t.dst = netip.AddrPortFrom(src, sport), netip.AddrPortFrom(dst, dport)
		return nil
	}
}
