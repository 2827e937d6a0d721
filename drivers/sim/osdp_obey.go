package sim

import (
	"crypto/subtle"
	"encoding/binary"
	"slices"
	"time"
)

// answer is what a command with a good check value brings.
func (r *Reader) answer(frame []byte) []reply {
	f := r.asked()
	if f.Silent {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return f.replies(r.obey(frame, f))
}

// obey keeps the rules of sequence: 0 starts again, a number seen before brings
// the stored reply, BUSY and a wrong number count as not seen.
func (r *Reader) obey(frame []byte, f Fault) []byte {
	addr := f.name(r.opts.Address) | osdpIsReply
	cmd, whole := osdpParse(frame)
	seq := int(cmd.ctrl & ctrlSequence)
	ctrl := cmd.ctrl & (ctrlSequence | ctrlCRC)
	nak := func(why byte) []byte { return osdpBuild(addr, ctrl, nil, repNak, []byte{why}, nil) }
	switch {
	case r.opts.Checksum && ctrl&ctrlCRC != 0:
		ctrl &^= ctrlCRC
		return nak(nakCheck)
	case !whole:
		return nak(nakLength)
	case f.Busy:
		return osdpBuild(addr, ctrl&^ctrlSequence, nil, repBusy, nil, nil)
	case seq == 0:
		r.session = nil
	case seq == r.last:
		return slices.Clone(r.stored)
	case r.last < 0 || seq != r.last%3+1:
		return nak(nakSequence)
	}
	r.last = seq
	r.stored = r.act(addr, ctrl, cmd, f)
	return slices.Clone(r.stored)
}

// act opens the command, does it and seals the reply.
func (r *Reader) act(addr, ctrl byte, cmd osdpFrame, f Fault) []byte {
	var code byte
	var payload, security []byte
	why := r.unseal(&cmd)
	if why == 0 {
		why = f.Refuse
	}
	if why == 0 {
		code, payload, security = r.do(cmd)
	} else {
		code, payload = repNak, []byte{why}
	}
	s := r.session
	if security != nil || s == nil || !s.open || f.Clear {
		return osdpBuild(addr, ctrl, security, code, payload, nil)
	}
	security = []byte{scsReply}
	if len(payload) > 0 {
		security[0], payload = scsReplyData, s.encrypt(payload, s.commandMAC)
	}
	return osdpBuild(addr, ctrl, security, code, payload, func(wire []byte) []byte {
		s.replyMAC = s.sign(wire, s.commandMAC)
		return s.replyMAC[:4]
	})
}

// unseal checks what protects a command and decrypts it. It returns the NAK
// code that refuses it, or 0. Whatever does not belong into a session ends it.
func (r *Reader) unseal(cmd *osdpFrame) (nak byte) {
	handshake := cmd.code == cmdChlng || cmd.code == cmdSCrypt
	if r.opts.Plain && (cmd.security != nil || handshake) {
		return nakUnsupported
	}
	open := r.session != nil && r.session.open
	defer func() {
		if nak != 0 {
			r.session = nil
		}
	}()
	if cmd.security == nil {
		if open || handshake || r.opts.Secure && !allowedClear(cmd.code) {
			return nakCondition
		}
		return 0
	}
	switch kind := cmd.security[0]; {
	case kind == scsChallenge && cmd.code == cmdChlng && len(cmd.security) == 2,
		kind == scsSCrypt && cmd.code == cmdSCrypt && len(cmd.security) == 2:
		return 0
	case kind != scsCommand && kind != scsCommandData, !open, handshake:
		return nakCondition
	}
	s := r.session
	mac := s.sign(cmd.wire, s.replyMAC)
	if subtle.ConstantTimeCompare(mac[:4], cmd.mac) != 1 {
		return nakCondition
	}
	if cmd.security[0] == scsCommandData {
		var ok bool
		if cmd.payload, ok = s.decrypt(cmd.payload, s.replyMAC); !ok {
			return nakCondition
		}
	} else if len(cmd.payload) > 0 && cmd.code == cmdKeySet {
		return nakCondition // a key is never sent in clear
	}
	s.commandMAC = mac
	return 0
}

// allowedClear are the commands that a reader which wants a secure session
// obeys without one. A poll then brings no card.
func allowedClear(code byte) bool {
	return slices.Contains([]byte{cmdPoll, cmdID, cmdCap, cmdLStat}, code)
}

// do obeys a command; security is the block of a reply to the handshake.
func (r *Reader) do(cmd osdpFrame) (code byte, payload, security []byte) {
	p := cmd.payload
	if want, fixed := payloadSize[cmd.code]; fixed && len(p) != want {
		return repNak, []byte{nakLength}, nil
	}
	switch cmd.code {
	case cmdPoll:
		code, payload = r.next()
		return code, payload, nil
	case cmdID:
		return repID, r.identity(), nil
	case cmdCap:
		return repCap, r.capabilities(), nil
	case cmdLStat:
		return repLStat, flags(r.tamper, r.power), nil
	case cmdIStat:
		return repIStat, flags(r.inputs...), nil
	case cmdOStat:
		return repOStat, r.outputStates(), nil
	case cmdChlng:
		return r.challenge(p, cmd.security[1])
	case cmdSCrypt:
		return r.prove(p, cmd.security[1])
	case cmdKeySet:
		if r.session == nil || !r.session.open {
			return repNak, []byte{nakCondition}, nil
		}
		if p[0] != keyTypeOwn || p[1] != 16 {
			return repNak, []byte{nakLength}, nil
		}
		r.opts.Key, r.opts.Install = slices.Clone(p[2:]), false
	case cmdOut:
		if !r.switchOutputs(p) {
			return repNak, []byte{nakLength}, nil
		}
	case cmdLED:
		if len(p) == 0 || len(p)%14 != 0 {
			return repNak, []byte{nakLength}, nil
		}
	case cmdBuz:
	default:
		return repNak, []byte{nakUnknown}, nil
	}
	r.commands[cmd.code] = slices.Clone(p)
	return repAck, nil, nil
}

// payloadSize is how many bytes follow the code of a command that has always
// as many.
var payloadSize = map[byte]int{
	cmdPoll: 0, cmdID: 1, cmdCap: 1, cmdLStat: 0, cmdIStat: 0, cmdOStat: 0, cmdBuz: 5,
	cmdKeySet: 18, cmdChlng: 8, cmdSCrypt: 16,
}

// challenge answers CHLNG with the reader's own random number and cryptogram.
func (r *Reader) challenge(cpRandom []byte, which byte) (byte, []byte, []byte) {
	r.session = nil
	key := r.opts.Key
	if which == 0 {
		key = nil
		if r.opts.Install {
			key = defaultKey()
		}
	}
	if key == nil || which > 1 {
		return repNak, []byte{nakCondition}, nil
	}
	r.session = newSession(key, [8]byte(cpRandom), newRandom())
	r.session.byDefault = which == 0
	id := r.identity()
	cuid := slices.Concat(id[:2], id[3:9])
	return repCCrypt, slices.Concat(cuid, r.session.random[:], r.session.readerCryptogram()), []byte{scsCCrypt, which}
}

// prove answers SCRYPT: with the initial R-MAC if the panel holds the key.
func (r *Reader) prove(cryptogram []byte, which byte) (byte, []byte, []byte) {
	s := r.session
	if s == nil || s.open || s.byDefault != (which == 0) {
		r.session = nil
		return repNak, []byte{nakCondition}, nil
	}
	if subtle.ConstantTimeCompare(cryptogram, s.panelCryptogram()) != 1 {
		r.session = nil
		return repRMAC, make([]byte, 16), []byte{scsRMAC, 0}
	}
	s.begin()
	return repRMAC, slices.Clone(s.replyMAC), []byte{scsRMAC, 1}
}

// identity is PDID: vendor, model 1, version 1, serial number, firmware 1.0.0.
func (r *Reader) identity() []byte {
	id := binary.LittleEndian.AppendUint32([]byte{0xCA, 0x44, 0x6C, 1, 1}, r.opts.Serial)
	return append(id, 1, 0, 0)
}

// capabilities is PDCAP: function, compliance, count.
func (r *Reader) capabilities() []byte {
	return []byte{
		1, 1, byte(len(r.inputs)),
		2, 1, byte(len(r.outputs)),
		3, 1, 0,
		4, 1, 1,
		5, 1, 1,
		8, byte(bit(!r.opts.Checksum)), 0,
		9, byte(bit(!r.opts.Plain)), 0,
		10, 0x00, 0x01, // takes 256 bytes
		13, 0, 1,
		16, 2, 0,
	}
}

func (r *Reader) outputStates() []byte {
	out := make([]bool, len(r.outputs))
	for i, o := range r.outputs {
		out[i] = o.is(time.Now())
	}
	return flags(out...)
}

// switchOutputs obeys OUT, all of it or nothing.
func (r *Reader) switchOutputs(p []byte) bool {
	if len(p) == 0 || len(p)%4 != 0 {
		return false
	}
	for b := range slices.Chunk(p, 4) {
		if int(b[0]) >= len(r.outputs) || b[1] > 6 {
			return false
		}
	}
	for b := range slices.Chunk(p, 4) {
		o := &r.outputs[b[0]]
		length := time.Duration(binary.LittleEndian.Uint16(b[2:])) * 100 * time.Millisecond
		switch b[1] {
		case 1, 2:
			*o = output{on: b[1] == 2}
		case 3, 4:
			o.on = b[1] == 4
		case 5, 6:
			o.timed, o.until = b[1] == 5, time.Now().Add(length)
		}
	}
	return true
}
