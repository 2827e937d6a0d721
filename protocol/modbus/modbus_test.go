package modbus

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The frames are printed in the manuals of the devices named.
func TestCRCMatchesPublishedFrames(t *testing.T) {
	for _, frame := range []string{
		"01 03 00 00 00 02 C4 0B", // Renke RS-WS-N01
		"01 04 00 01 00 02 20 0B", // XY-MD02
		"01 03 00 10 00 01 85 CF", // RS-485 smoke detector
		"01 03 00 00 00 06 C5 C8", // 4MZ-HH4
		"01 05 02 00 00 07 8D B0", // Waveshare pulse
	} {
		b := unhex(t, frame)
		if got, want := CRC(b[:len(b)-2]), binary.LittleEndian.Uint16(b[len(b)-2:]); got != want {
			t.Errorf("CRC of %s = %04X, want %04X", frame, got, want)
		}
	}
}

func TestFramersAcceptOnlyWhatAnswersTheRequest(t *testing.T) {
	rtu := func(s string) []byte {
		b := unhex(t, s)
		return binary.LittleEndian.AppendUint16(b, CRC(b))
	}
	request := rtu("01 03 0000 0002")
	coil := rtu("01 05 0000 FF00")
	many := rtu("01 10 0000 0002 04 00010002")
	coils := rtu("01 0F 0013 000A 02 CD01") // the example of AP 6.11
	header := "0007 0000 "
	tests := []struct {
		name    string
		request []byte
		tcp     bool
		rx      []byte
		need    int
		err     error
	}{
		{"nothing yet", request, false, nil, 5, nil},
		{"the address", request, false, unhex(t, "01"), 4, nil},
		{"address and function", request, false, unhex(t, "01 03"), 7, nil},
		{"all but one", request, false, rtu("01 03 04 0001 0002")[:8], 1, nil},
		{"whole", request, false, rtu("01 03 04 0001 0002"), 0, nil},
		{"with surplus", request, false, append(rtu("01 03 04 0001 0002"), 0, 0), -2, nil},
		{"exception", request, false, rtu("01 83 02"), 0, nil},
		{"exception split", request, false, rtu("01 83 02")[:3], 2, nil},
		{"another device", request, false, rtu("02 03 04 0001 0002"), 0, ErrForeign},
		{"another function", request, false, rtu("01 04 04 0001 0002"), 0, ErrForeign},
		{"another's exception", request, false, rtu("01 84 02"), 0, ErrForeign},
		{"another length", request, false, rtu("01 03 02 0001"), 0, ErrForeign},
		{"bad check", request, false, append(unhex(t, "01 03 04 0001 0002"), 0, 0), 0, ErrDamaged},
		{"bad check of an exception", request, false, append(unhex(t, "01 83 02"), 0, 0), 0, ErrDamaged},
		{"echo", coil, false, coil, 0, nil},
		{"echo of another coil", coil, false, rtu("01 05 0001 FF00"), 0, ErrForeign},
		{"echo of another value", coil, false, rtu("01 05 0000 0000"), 0, ErrForeign},
		{"several registers written", many, false, rtu("01 10 0000 0002"), 0, nil},
		{"several registers written elsewhere", many, false, rtu("01 10 0001 0002"), 0, ErrForeign},
		{"fewer registers written", many, false, rtu("01 10 0000 0001"), 0, ErrForeign},
		{"several registers, damaged", many, false, unhex(t, "01 10 0000 0002 0000"), 0, ErrDamaged},
		{"several registers, played back", many, false, many, 0, ErrForeign},
		{"several registers refused", many, false, rtu("01 90 03"), 0, nil},
		{"several coils written", coils, false, rtu("01 0F 0013 000A"), 0, nil},
		{"several coils, played back", coils, false, coils, 0, ErrForeign},
		{"TCP whole", unhex(t, header+"0006 01 03 0000 0001"), true, unhex(t, header+"0005 01 03 02 002A"), 0, nil},
		{"TCP split in the header", unhex(t, header+"0006 01 03 0000 0001"), true, unhex(t, header), 5, nil},
		{"TCP split in the data", unhex(t, header+"0006 01 03 0000 0001"), true, unhex(t, header+"0005 01 03 02 00"), 1, nil},
		{"TCP exception", unhex(t, header+"0006 01 03 0000 0001"), true, unhex(t, header+"0003 01 83 02"), 0, nil},
		{"TCP late transaction", unhex(t, header+"0006 01 03 0000 0001"), true, unhex(t, "0006 0000 0005 01 03 02 002A"), 0, ErrForeign},
		{"TCP other protocol", unhex(t, header+"0006 01 03 0000 0001"), true, unhex(t, "0007 0001 0005 01 03 02 002A"), 0, ErrForeign},
		{"TCP other unit", unhex(t, header+"0006 01 03 0000 0001"), true, unhex(t, header+"0005 02 03 02 002A"), 0, ErrForeign},
		{"TCP length that lies", unhex(t, header+"0006 01 03 0000 0001"), true, unhex(t, header+"0009 01 03 02 002A"), 0, ErrForeign},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			make := RTU
			if tt.tcp {
				make = TCP
			}
			f, err := make(tt.request)
			if err != nil {
				t.Fatal(err)
			}
			need, err := f(tt.rx)
			if need != tt.need || err != tt.err { // ErrDamaged is ErrForeign too
				t.Errorf("framer(% x) = %d, %v; want %d, %v", tt.rx, need, err, tt.need, tt.err)
			}
		})
	}
}

func TestATransactionIsComparedAsNumbered(t *testing.T) {
	request := unhex(t, "0000 0000 0006 01 03 0000 0001")
	SetTransaction(request, 0x1234)
	f, err := TCP(request)
	if err != nil {
		t.Fatal(err)
	}
	if need, err := f(unhex(t, "1234 0000 0005 01 03 02 002A")); need != 0 || err != nil {
		t.Errorf("own transaction: %d, %v", need, err)
	}
	if _, err := f(unhex(t, "0000 0000 0005 01 03 02 002A")); !errors.Is(err, ErrForeign) {
		t.Errorf("old transaction: %v, want ErrForeign", err)
	}
}

func TestRequestsThatNoFramerCanJudgeAreRefused(t *testing.T) {
	for _, pdu := range []string{
		"03 0000 0000", "03 0000 007E", "01 0000 07D1", "2B 0E 01 00 00", "03 00", "03 0000 0001 00", "05 0000 FF00 00",
		"0F 0000 0000 00", "0F 0000 0009 01 FF", "0F 0000 0008 02 FF", "0F 0000 07B1 F7", "10 0000 0000 00", "10 0000 0001 02 00",
		"10 0000 0001 04 0001", "10 0000 007C F8", "10 0000 0001",
	} {
		b := unhex(t, "01"+pdu+"0000")
		if _, err := RTU(b); err == nil {
			t.Errorf("RTU(%s): no error", pdu)
		}
		if _, err := TCP(append(make([]byte, 6), b[:len(b)-2]...)); err == nil {
			t.Errorf("TCP(%s): no error", pdu)
		}
	}
}

func TestExceptionsCarryThePublishedText(t *testing.T) {
	_, err := Data([]byte{0x83, 0x02})
	var e Exception
	if !errors.As(err, &e) || e.Code != IllegalDataAddress || e.Function != ReadHoldingRegisters {
		t.Fatalf("Data = %v", err)
	}
	if want := "modbus exception 2 (illegal data address) to function 3"; err.Error() != want {
		t.Errorf("text %q, want %q", err, want)
	}
	if got := Code(0x63).String(); got != "code 0x63" {
		t.Errorf("an unpublished code is %q", got)
	}
	if !(Exception{Code: GatewayTarget}).FromGateway() || (Exception{Code: DeviceBusy}).FromGateway() {
		t.Error("only 0x0A and 0x0B come from a gateway")
	}
}

// requestPDU builds what a request of the function looks like; data fills what
// it writes. Functions that have no framer get five bytes, which none takes.
func requestPDU(function byte, quantity uint16, data []byte) []byte {
	pdu := []byte{function, 0, 0, byte(quantity >> 8), byte(quantity)}
	size := 0
	switch function {
	case WriteMultipleCoils:
		size = (int(quantity) + 7) / 8
	case WriteMultipleRegisters:
		size = 2 * int(quantity)
	default:
		return pdu
	}
	if size > 0xFF {
		return pdu
	}
	pdu = append(append(pdu, byte(size)), make([]byte, size)...)
	copy(pdu[6:], data)
	return pdu
}

// FuzzRTU checks that whatever arrives, an accepted frame is one: it has the
// request's address and function and its check value is right, and that a true
// reply built from the same bytes is accepted at every split.
func FuzzRTU(f *testing.F) {
	f.Add(byte(1), byte(3), uint16(2), []byte{1, 3, 4, 0, 1, 0, 2, 0x2A, 0x32})
	f.Add(byte(7), byte(1), uint16(9), []byte{7, 0x81, 2})
	f.Add(byte(1), byte(5), uint16(0xFF00), []byte{1, 5, 0, 0, 0xFF, 0})
	f.Add(byte(1), byte(6), uint16(3), []byte{1, 6, 0, 0, 0, 3})
	f.Add(byte(1), byte(15), uint16(10), []byte{1, 15, 0, 0, 0, 10, 0xD4, 0x0C})
	f.Add(byte(1), byte(16), uint16(2), []byte{1, 16, 0, 0, 0, 2, 4, 0})
	f.Fuzz(func(t *testing.T, unit, function byte, quantity uint16, rx []byte) {
		pdu := requestPDU(function, quantity, rx)
		request := append([]byte{unit}, pdu...)
		request = binary.LittleEndian.AppendUint16(request, CRC(request))
		want, err := ReplyRTU(request)
		if err != nil {
			t.Skip()
		}
		if need, err := want.Judge(rx); err == nil && need <= 0 {
			frame := rx[:len(rx)+need]
			if frame[0] != unit || frame[1]&^ExceptionBit != function {
				t.Errorf("accepted % x for % x", frame, request)
			}
			if n := len(frame); CRC(frame[:n-2]) != binary.LittleEndian.Uint16(frame[n-2:]) {
				t.Errorf("accepted % x with a bad check", frame)
			}
		}
		reply := append([]byte{unit}, trueReply(want, pdu, rx)...)
		reply = binary.LittleEndian.AppendUint16(reply, CRC(reply))
		roundTrip(t, want.Judge, reply)
	})
}

// FuzzTCP is FuzzRTU for the other framing.
func FuzzTCP(f *testing.F) {
	f.Add(uint16(7), byte(1), byte(3), uint16(2), []byte{0, 7, 0, 0, 0, 7, 1, 3, 4, 0, 1, 0, 2})
	f.Add(uint16(7), byte(1), byte(4), uint16(1), []byte{0, 7, 0, 0, 0, 3, 1, 0x84, 2})
	f.Add(uint16(7), byte(1), byte(15), uint16(10), []byte{0, 7, 0, 0, 0, 6, 1, 15, 0, 0, 0, 10})
	f.Add(uint16(7), byte(1), byte(16), uint16(123), []byte{0, 7, 0, 0, 0, 6, 1, 16, 0, 0, 0, 123})
	f.Fuzz(func(t *testing.T, id uint16, unit, function byte, quantity uint16, rx []byte) {
		pdu := requestPDU(function, quantity, rx)
		request := append([]byte{byte(id >> 8), byte(id), 0, 0, 0, byte(1 + len(pdu)), unit}, pdu...)
		want, err := ReplyTCP(request)
		if err != nil {
			t.Skip()
		}
		if need, err := want.Judge(rx); err == nil && need <= 0 {
			frame := rx[:len(rx)+need]
			if string(frame[:4]) != string(request[:4]) || frame[6] != unit || frame[7]&^ExceptionBit != function {
				t.Errorf("accepted % x for % x", frame, request)
			}
			if int(binary.BigEndian.Uint16(frame[4:])) != len(frame)-6 {
				t.Errorf("accepted % x with a length that lies", frame)
			}
		}
		answer := trueReply(want, pdu, rx)
		reply := append([]byte{byte(id >> 8), byte(id), 0, 0, 0, 0, unit}, answer...)
		binary.BigEndian.PutUint16(reply[4:], uint16(1+len(answer)))
		roundTrip(t, want.Judge, reply)
	})
}

// trueReply builds the PDU that answers request, its data taken from seed.
func trueReply(want Reply, request, seed []byte) []byte {
	pdu := make([]byte, want.size)
	copy(pdu[1:], seed)
	pdu[0] = want.function
	if want.counted {
		pdu[1] = byte(want.size - 2)
	} else {
		copy(pdu[1:], request[1:5])
	}
	return pdu
}

// roundTrip feeds a true reply byte by byte: always more needed, never more
// than there is, until it is whole; then one byte too many is told apart.
func roundTrip(t *testing.T, framer Framer, reply []byte) {
	for n := range reply {
		if need, err := framer(reply[:n]); err != nil || need < 1 || need > len(reply)-n {
			t.Fatalf("after %d of % x: need %d, err %v", n, reply, need, err)
		}
	}
	if need, err := framer(reply); need != 0 || err != nil {
		t.Fatalf("% x: need %d, err %v", reply, need, err)
	}
	if need, err := framer(append(reply, 0x55)); need != -1 || err != nil {
		t.Fatalf("% x and one more: need %d, err %v", reply, need, err)
	}
}

func BenchmarkFramerRTU(b *testing.B) {
	request := []byte{1, 3, 0, 0, 0, 20}
	request = binary.LittleEndian.AppendUint16(request, CRC(request))
	f, err := RTU(request)
	if err != nil {
		b.Fatal(err)
	}
	reply := append([]byte{1, 3, 40}, make([]byte, 40)...)
	reply = binary.LittleEndian.AppendUint16(reply, CRC(reply))
	b.ReportAllocs()
	for b.Loop() {
		if need, err := f(reply); need != 0 || err != nil {
			b.Fatal(need, err)
		}
	}
}
