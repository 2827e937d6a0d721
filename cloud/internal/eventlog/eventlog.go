// Package eventlog is the cloud's memory: every record a gateway was ever told
// is safe, in order, once. It alone knows that JetStream streams hold it.
//
// It guarantees: what Append reports is on the disk; a record is stored once
// however often and however concurrently it is sent; Read returns the records
// of one gateway and lane in the order of their sequence, and a cursor neither
// skips nor repeats one; what is gone for good appears as a gap entry, never
// as silence. DESIGN.md beside this file fixes what is stored and how.
package eventlog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"gatehouse/protocol/wire"
)

// Errors of the log.
var (
	// ErrFormat occurs when a stream was written by a newer release.
	ErrFormat = errors.New("event log has a newer format")
	// ErrStore occurs when the log could not store; what was sent must be sent again.
	ErrStore = errors.New("event log did not store")
	// ErrFull occurs, with ErrStore, when there is no room left.
	ErrFull = errors.New("no room left")
	// ErrTooBig occurs when a record cannot be stored, however often it is sent.
	ErrTooBig = errors.New("record too big for the event log")
)

const (
	// formatVersion is the version of DESIGN.md this code writes.
	formatVersion = 1
	formatKey     = "gatehouse.log.version"

	day = 24 * time.Hour
)

// retention is how long each lane's entries are kept.
var retention = map[wire.Lane]time.Duration{
	wire.LaneAlarm:     400 * day, // a year of alarms and the season to look back on it
	wire.LaneEvent:     400 * day,
	wire.LaneTelemetry: 30 * day,
	wire.LaneMedia:     30 * day,
}

// share is the part of the room, in percent, that each lane may take. The oldest
// of a full lane goes, so telemetry can never take the place of alarms.
var share = map[wire.Lane]int64{
	wire.LaneAlarm:     15,
	wire.LaneEvent:     10,
	wire.LaneTelemetry: 55,
	wire.LaneMedia:     20,
}

// Origin is who a batch came from, as the session and the registry say.
type Origin struct {
	Gateway  string
	Division string
}

// Entry is one record in the log. An entry without a Gateway is the log's own:
// a gap in what it still has.
type Entry struct {
	Gateway  string
	Division string
	Epoch    string
	Received time.Time
	Record   wire.Record
}

// Options say where the log lives.
type Options struct {
	Conn       *nats.Conn   // required
	Log        *slog.Logger // required
	Room       int64        // bytes all lanes may take together; 0 for no bound
	Registerer prometheus.Registerer
}

// Log is the event log. It is safe for use by many goroutines.
type Log struct {
	nc    *nats.Conn
	log   *slog.Logger
	enc   *zstd.Encoder
	dec   *zstd.Decoder
	lanes map[wire.Lane]*lane

	duplicates *prometheus.CounterVec

	closing chan struct{}
	commits sync.WaitGroup

	mu      sync.Mutex // guards waiters
	waiters map[*waiter]struct{}
}

// lane is one stream with what is known of its markers.
type lane struct {
	id     wire.Lane
	name   string
	stream jetstream.Stream
	parts  chan *part // waiting to be stored

	mu      sync.Mutex // guards markers, trouble
	markers map[string]marker
	trouble trouble
}

// Open creates or opens the streams.
func Open(ctx context.Context, o Options) (*Log, error) {
	if o.Conn == nil || o.Log == nil {
		return nil, errors.New("eventlog: Conn and Log are required")
	}
	js, err := jetstream.New(o.Conn)
	if err != nil {
		return nil, fmt.Errorf("eventlog: %w", err)
	}
	l := &Log{
		nc: o.Conn, log: o.Log, lanes: map[wire.Lane]*lane{}, waiters: map[*waiter]struct{}{}, closing: make(chan struct{}),
		duplicates: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gatehouse_log_duplicate_records_total", Help: "Records sent again that the log had already.",
		}, []string{"lane"}),
	}
	if err := l.openCodecs(); err != nil {
		return nil, err
	}
	for _, id := range wire.Lanes {
		s, err := openStream(ctx, js, id, o.Room)
		if err != nil {
			l.Close()
			return nil, err
		}
		ln := &lane{id: id, name: streamName(id), stream: s, parts: make(chan *part, 64), markers: map[string]marker{}}
		l.lanes[id] = ln
		l.duplicates.WithLabelValues(id.String())
		l.commits.Go(func() { l.runCommits(ln) })
	}
	if o.Registerer != nil {
		if err := o.Registerer.Register(l.duplicates); err != nil {
			l.Close()
			return nil, fmt.Errorf("eventlog: metrics: %w", err)
		}
	}
	return l, nil
}

func (l *Log) openCodecs() (err error) {
	n := runtime.GOMAXPROCS(0)
	l.enc, err = zstd.NewWriter(nil, zstd.WithEncoderConcurrency(n), zstd.WithLowerEncoderMem(true), zstd.WithWindowSize(1<<20))
	if err != nil {
		return fmt.Errorf("eventlog: %w", err)
	}
	// A run is no larger than the batch it came in, but encoded anew: a record
	// that names the defaults it left out may have grown.
	l.dec, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(n), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxMemory(2*wire.MaxInflated))
	if err != nil {
		return fmt.Errorf("eventlog: %w", err)
	}
	return nil
}

func streamName(id wire.Lane) string { return strings.ToUpper(id.String()) }

func openStream(ctx context.Context, js jetstream.JetStream, id wire.Lane, room int64) (jetstream.Stream, error) {
	name := streamName(id)
	if s, err := js.Stream(ctx, name); err == nil {
		have, err := strconv.Atoi(s.CachedInfo().Config.Metadata[formatKey])
		if err == nil && have > formatVersion {
			return nil, fmt.Errorf("stream %s: %w: version %d, this release knows %d (hint: install the release that wrote it, or a newer one)",
				name, ErrFormat, have, formatVersion)
		}
	} else if !errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil, fmt.Errorf("open stream %s: %w", name, err)
	}
	maxBytes := int64(-1) // no bound
	if room > 0 {
		maxBytes = room / 100 * share[id]
	}
	s, err := js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name:        name,
		Description: "records of lane " + id.String(),
		Subjects:    []string{"ev." + id.String() + ".>", markSubject(id, "*")},
		Storage:     jetstream.FileStorage,
		Retention:   jetstream.LimitsPolicy,
		Discard:     jetstream.DiscardOld,
		MaxAge:      retention[id],
		MaxBytes:    maxBytes,

		AllowDirect:        true,
		AllowAtomicPublish: true,
		AllowRollup:        true, // a marker replaces the one before
		AllowMsgTTL:        true, // a marker outlives the records it vouches for
		Metadata:           map[string]string{formatKey: strconv.Itoa(formatVersion)},
	})
	if err != nil {
		return nil, fmt.Errorf("open stream %s: %w", name, err)
	}
	return s, nil
}

// Close ends what the log runs and frees its memory; the connection stays its
// owner's. What is being stored is stored to the end.
func (l *Log) Close() {
	close(l.closing)
	l.commits.Wait()
	if l.enc != nil {
		_ = l.enc.Close()
	}
	if l.dec != nil {
		l.dec.Close()
	}
}
