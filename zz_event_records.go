package orbit

// An event is one frame of the events ring. The topic and the caller's payload
// lie one after the other in the frame's payload:
//
//	frame.Kind     length of the topic, 1 to 255
//	frame.Version  time of publication, on the clock of [Stamp]
//	frame.Payload  topic | payload
//
// Nothing else is in the way of the two: they are copied straight into the
// slot, and straight out of it.

// MaxTopic is the longest topic in bytes: its length travels in one byte.
const MaxTopic = 255

// decodeEvent splits the payload of an event's frame. It fails for a frame
// that no [EventBus] published.
func decodeEvent(kind uint8, record []byte) (topic, payload []byte, ok bool) {
	n := int(kind)
	if n == 0 || n > len(record) {
		return nil, nil, false
	}
	return record[:n:n], record[n:], true
}

// A heartbeat is a word in the node's cell of the table behind the slots of
// the heartbeat ring, and for those who follow the ring also a frame:
//
//	cell           time of the newest beat, on the clock of [Stamp], 0 for none
//	frame.ID       its node is the node that beat
//	frame.Kind     1
//	frame.Version  time of the beat, on the same clock
//	frame.Payload  empty
//
// A cell is one word, so that a writer killed at any instruction leaves the
// old beat or the new one.
const (
	beatKind     = 1
	beatTableLen = maxNodes * wordSize
)
