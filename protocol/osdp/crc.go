package osdp

// CRC returns the check value of a frame without its last two bytes: polynomial
// 0x1021, initial 0x1D0F, not reflected (OSDP, annex C). It is sent low byte first.
func CRC(b []byte) uint16 {
	crc := uint16(0x1D0F)
	for _, c := range b {
		crc = crc<<8 ^ crcTable[byte(crc>>8)^c]
	}
	return crc
}

// Checksum returns the check value of a frame without its last byte: the two's
// complement of the sum of its bytes.
func Checksum(b []byte) (sum byte) {
	for _, c := range b {
		sum -= c
	}
	return sum
}

var crcTable = makeCRCTable()

func makeCRCTable() (t [256]uint16) {
	for i := range t {
		crc := uint16(i) << 8
		for range 8 {
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ 0x1021
			} else {
				crc <<= 1
			}
		}
		t[i] = crc
	}
	return t
}
