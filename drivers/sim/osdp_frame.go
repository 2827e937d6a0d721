package sim

import (
	"encoding/binary"
	"fmt"
)

// Parts of an OSDP v2.2 frame.
const (
	osdpMark      = 0xFF // may stand before a frame, counts for nothing
	osdpSOM       = 0x53
	osdpBroadcast = 0x7F
	osdpIsReply   = 0x80 // in the address
	osdpHead      = 5    // SOM, address, length, control
	osdpMax       = 1024 // longer than any frame a reader takes

	ctrlSequence = 0x03
	ctrlCRC      = 0x04
	ctrlSecure   = 0x08
)

// osdpFrame is a frame taken apart. wire is what the MAC is made over: SOM to
// the last byte of the payload.
type osdpFrame struct {
	addr, ctrl byte
	security   []byte // type and data of the security block; nil: none
	code       byte
	payload    []byte
	mac        []byte // nil: none
	wire       []byte
}

// osdpSplit says what begins in rx, as station.split does.
func osdpSplit(rx []byte) int {
	switch {
	case rx[0] != osdpSOM:
		return -1
	case len(rx) < osdpHead:
		return 0
	}
	n := int(binary.LittleEndian.Uint16(rx[2:]))
	if n < osdpHead+2 || n > osdpMax {
		return -1
	}
	if len(rx) < n {
		return 0
	}
	if !osdpIntact(rx[:n]) {
		return -1
	}
	return n
}

// osdpIntact reports whether the check value of a frame is right.
func osdpIntact(f []byte) bool {
	if f[4]&ctrlCRC != 0 {
		n := len(f) - 2
		return crc16CCITT(f[:n]) == binary.LittleEndian.Uint16(f[n:])
	}
	return sum8(f) == 0
}

// osdpParse takes an intact frame apart; false if its parts do not fit.
func osdpParse(f []byte) (osdpFrame, bool) {
	out := osdpFrame{addr: f[1], ctrl: f[4]}
	n := len(f) - 1
	if out.ctrl&ctrlCRC != 0 {
		n--
	}
	at := osdpHead
	if out.ctrl&ctrlSecure != 0 {
		if at+2 > n || int(f[at]) < 2 || at+int(f[at]) > n {
			return out, false
		}
		out.security = f[at+1 : at+int(f[at])]
		at += int(f[at])
		if t := out.security[0]; t >= scsCommand && t <= scsReplyData {
			n -= 4
		}
	}
	if at >= n {
		return out, false
	}
	out.code, out.payload, out.wire = f[at], f[at+1:n], f[:n]
	if end := f[n:]; len(end) >= 4 {
		out.mac = end[:4]
	}
	return out, true
}

// osdpBuild is the reverse: security is type and data of the block, room is
// kept for a MAC, which seal then makes over the finished frame.
func osdpBuild(addr, ctrl byte, security []byte, code byte, payload []byte, seal func([]byte) []byte) []byte {
	f := []byte{osdpSOM, addr, 0, 0, ctrl}
	if security != nil {
		f[4] |= ctrlSecure
		f = append(append(f, byte(len(security)+1)), security...)
	}
	f = append(append(f, code), payload...)
	n := len(f) + 1
	if ctrl&ctrlCRC != 0 {
		n++
	}
	if seal != nil {
		n += 4
	}
	binary.LittleEndian.PutUint16(f[2:], uint16(n))
	if seal != nil {
		f = append(f, seal(f)...)
	}
	if ctrl&ctrlCRC != 0 {
		return binary.LittleEndian.AppendUint16(f, crc16CCITT(f))
	}
	return append(f, -sum8(f))
}

// crc16CCITT is polynomial 0x1021 from 0x1D0F on, neither reflected nor inverted.
func crc16CCITT(p []byte) uint16 {
	crc := uint16(0x1D0F)
	for _, b := range p {
		crc ^= uint16(b) << 8
		for range 8 {
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ 0x1021
			} else {
				crc <<= 1
			}
		}
	}
	return crc
}

// sum8 is the sum of all bytes, modulo 256.
func sum8(p []byte) (sum byte) {
	for _, b := range p {
		sum += b
	}
	return sum
}

// readers are the OSDP readers on one line, by address.
type readers map[byte]*Reader

func (r *Reader) join(s station) (station, error) {
	line, ok := s.(readers)
	if s == nil {
		line, ok = make(readers), true
	}
	switch {
	case !ok:
		return s, fmt.Errorf("reader %d: the line carries devices of another kind", r.opts.Address)
	case line[r.opts.Address] != nil:
		return s, fmt.Errorf("reader %d: the address is taken", r.opts.Address)
	}
	line[r.opts.Address] = r
	return line, nil
}

func (rs readers) split(rx []byte) int { return osdpSplit(rx) }

// answer obeys a command. A broadcast is answered only by a reader alone on its
// line: the answers of several would collide.
func (rs readers) answer(frame []byte) []reply {
	if frame[1]&osdpIsReply != 0 {
		return nil
	}
	if frame[1] == osdpBroadcast && len(rs) == 1 {
		for _, r := range rs {
			return r.answer(frame)
		}
	}
	if r := rs[frame[1]]; r != nil {
		return r.answer(frame)
	}
	return nil
}
