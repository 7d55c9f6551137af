package torchfile

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
)

// The values that the pickle machine makes, besides string, bool and nil.
type (
	integer struct {
		value  int64
		digits string // little-endian hex of one that is larger than int64
	}
	global struct{ module, name string }
	tuple  []any
	list   struct{ items []any }
	entry  struct{ key, value any }
	dict   struct{ items []entry }
	opaque struct{} // any object that this package ignores
	mark   struct{}

	storage struct {
		dtype string // safetensors' name
		width int64  // bytes of an element
		key   string
	}
	tensor struct {
		storage       *storage
		offset        int64
		shape, stride []int64
	}
)

// storageTypes maps torch's storage classes to safetensors' types.
var storageTypes = map[string]storage{
	"FloatStorage": {dtype: "F32", width: 4}, "HalfStorage": {dtype: "F16", width: 2},
	"BFloat16Storage": {dtype: "BF16", width: 2}, "DoubleStorage": {dtype: "F64", width: 8},
	"LongStorage": {dtype: "I64", width: 8}, "IntStorage": {dtype: "I32", width: 4},
	"ShortStorage": {dtype: "I16", width: 2}, "CharStorage": {dtype: "I8", width: 1},
	"ByteStorage": {dtype: "U8", width: 1}, "BoolStorage": {dtype: "BOOL", width: 1},
}

// machine is the stack machine that runs a pickle.
type machine struct {
	r     *bytes.Reader
	stack []any
	memo  map[uint32]any
	limit int // the largest size of a value in bytes: the size of the file
}

// unpickle runs the next pickle of r and returns its value. No value is larger than the file.
func unpickle(r *bytes.Reader, limit int) (any, error) {
	m := &machine{r: r, memo: map[uint32]any{}, limit: limit}
	for {
		op, err := r.ReadByte()
		if err != nil {
			return nil, errors.New("the pickle is cut short")
		}
		if op == '.' {
			return m.pop()
		}
		if err := m.step(op); err != nil {
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				err = errors.New("the pickle is cut short")
			}
			return nil, err
		}
	}
}

func (m *machine) push(v any) { m.stack = append(m.stack, v) }

func (m *machine) pop() (any, error) {
	n := len(m.stack)
	if n == 0 {
		return nil, errors.New("a broken pickle: the stack is empty")
	}
	v := m.stack[n-1]
	m.stack = m.stack[:n-1]
	return v, nil
}

// popToMark removes everything above the last mark, and the mark, from the stack. It returns the values.
func (m *machine) popToMark() ([]any, error) {
	for i := len(m.stack) - 1; i >= 0; i-- {
		if _, ok := m.stack[i].(mark); ok {
			items := append([]any{}, m.stack[i+1:]...)
			m.stack = m.stack[:i]
			return items, nil
		}
	}
	return nil, errors.New("a broken pickle: no mark on the stack")
}

// popN removes the top n values from the stack. It returns them in the order in which they were pushed.
func (m *machine) popN(n int) ([]any, error) {
	if len(m.stack) < n {
		return nil, errors.New("a broken pickle: the stack is too short")
	}
	items := append([]any{}, m.stack[len(m.stack)-n:]...)
	m.stack = m.stack[:len(m.stack)-n]
	return items, nil
}

// uint reads a little-endian number of n bytes.
func (m *machine) uint(n int) (uint64, error) {
	var b [8]byte
	_, err := io.ReadFull(m.r, b[:n])
	return binary.LittleEndian.Uint64(b[:]), err
}

// bytes reads a count of the given width, then as many bytes.
func (m *machine) bytes(width int) ([]byte, error) {
	n, err := m.uint(width)
	if err != nil {
		return nil, err
	}
	if n > uint64(m.r.Len()) {
		return nil, io.ErrUnexpectedEOF
	}
	b := make([]byte, n)
	_, err = io.ReadFull(m.r, b)
	return b, err
}

func (m *machine) line() (string, error) {
	var b strings.Builder
	for {
		c, err := m.r.ReadByte()
		if err != nil || c == '\n' {
			return b.String(), err
		}
		b.WriteByte(c)
	}
}

// step runs one instruction. Source: Python's pickletools.
func (m *machine) step(op byte) error {
	switch op {
	case 0x80: // PROTO
		_, err := m.r.ReadByte()
		return err
	case 0x95: // FRAME
		_, err := m.uint(8)
		return err
	case '(':
		m.push(mark{})
	case '0':
		_, err := m.pop()
		return err
	case '1':
		_, err := m.popToMark()
		return err
	case 'N':
		m.push(nil)
	case 0x88, 0x89:
		m.push(op == 0x88)
	case 'K', 'M', 'J', 0x8a:
		return m.integer(op)
	case 'G': // a float, which is ignored
		m.push(opaque{})
		_, err := m.uint(8)
		return err
	case 'X', 'T', 'B': // text and bytes with a long count
		return m.text(4)
	case 0x8c, 'U', 'C':
		return m.text(1)
	case 'q', 'r', 0x94, 'h', 'j':
		return m.memory(op)
	case ')', ']', '}', 't', 0x85, 0x86, 0x87, 'l', 'd':
		return m.container(op)
	case 'a', 'e', 's', 'u':
		return m.fill(op)
	default:
		return m.object(op)
	}
	return nil
}

func (m *machine) integer(op byte) error {
	switch op {
	case 'K', 'M':
		n, err := m.uint(map[byte]int{'K': 1, 'M': 2}[op])
		m.push(integer{value: int64(n)})
		return err
	case 'J':
		n, err := m.uint(4)
		m.push(integer{value: int64(int32(n))})
		return err
	}
	b, err := m.bytes(1) // LONG1: two's complement
	if err != nil {
		return err
	}
	if len(b) > 8 {
		m.push(integer{digits: hex.EncodeToString(b)})
		return nil
	}
	var full [8]byte
	copy(full[:], b)
	if len(b) > 0 && b[len(b)-1] >= 0x80 {
		for i := len(b); i < 8; i++ {
			full[i] = 0xff
		}
	}
	m.push(integer{value: int64(binary.LittleEndian.Uint64(full[:]))})
	return nil
}

func (m *machine) text(width int) error {
	b, err := m.bytes(width)
	m.push(string(b))
	return err
}

// memory stores the top of the stack in the memo, or pushes a value from the memo.
func (m *machine) memory(op byte) error {
	at := uint64(len(m.memo))
	if op != 0x94 {
		width := 1
		if op == 'r' || op == 'j' {
			width = 4
		}
		var err error
		if at, err = m.uint(width); err != nil {
			return err
		}
	}
	if op == 'h' || op == 'j' {
		v, ok := m.memo[uint32(at)]
		if !ok {
			return fmt.Errorf("a broken pickle: nothing is stored at %d", at)
		}
		m.push(v)
		return nil
	}
	v, err := m.pop()
	if err != nil {
		return err
	}
	m.push(v)
	m.memo[uint32(at)] = v
	return nil
}

func (m *machine) container(op byte) (err error) {
	var items []any
	switch op {
	case ')', ']', '}':
	case 0x85, 0x86, 0x87:
		items, err = m.popN(int(op) - 0x84)
	default:
		items, err = m.popToMark()
	}
	if err != nil {
		return err
	}
	switch op {
	case ']', 'l':
		m.push(&list{items})
	case '}', 'd':
		d := &dict{}
		m.push(d)
		return d.set(items)
	default:
		m.push(tuple(items))
	}
	return nil
}

// fill adds the top values to the list or dict below them.
func (m *machine) fill(op byte) (err error) {
	var items []any
	switch op {
	case 'a':
		items, err = m.popN(1)
	case 's':
		items, err = m.popN(2)
	default:
		items, err = m.popToMark()
	}
	if err != nil || len(m.stack) == 0 {
		return errors.Join(err, m.empty())
	}
	switch to := m.stack[len(m.stack)-1].(type) {
	case *list:
		to.items = append(to.items, items...)
	case *dict:
		return to.set(items)
	}
	return nil // an opaque object is ignored
}

func (m *machine) empty() error {
	if len(m.stack) == 0 {
		return errors.New("a broken pickle: the stack is empty")
	}
	return nil
}

func (d *dict) set(pairs []any) error {
	if len(pairs)%2 != 0 {
		return errors.New("a broken pickle: a key without a value")
	}
	for i := 0; i < len(pairs); i += 2 {
		d.items = append(d.items, entry{pairs[i], pairs[i+1]})
	}
	return nil
}

// object runs the instructions that call Python code in a real pickle machine.
func (m *machine) object(op byte) error {
	switch op {
	case 'c': // GLOBAL
		module, err := m.line()
		if err != nil {
			return err
		}
		name, err := m.line()
		m.push(global{module, name})
		return err
	case 0x93: // STACK_GLOBAL
		names, err := m.popN(2)
		if err != nil {
			return err
		}
		module, _ := names[0].(string)
		name, _ := names[1].(string)
		m.push(global{module, name})
	case 'Q': // BINPERSID
		v, err := m.pop()
		if err != nil {
			return err
		}
		s, err := persistent(v)
		m.push(s)
		return err
	case 'R', 0x81: // REDUCE, NEWOBJ
		call, err := m.popN(2)
		if err != nil {
			return err
		}
		v, err := rebuild(call[0], call[1])
		m.push(v)
		return err
	case 'b': // BUILD: an object's state
		_, err := m.pop()
		return errors.Join(err, m.empty())
	default:
		return fmt.Errorf("the pickle has the instruction %#02x, which state dicts do not have", op)
	}
	return nil
}

// persistent makes a storage from a persistent id: ('storage', class, key, location, elements, …).
func persistent(v any) (*storage, error) {
	t, _ := v.(tuple)
	if len(t) < 5 || t[0] != any("storage") {
		return nil, errors.New("the pickle refers to an object that is not a storage")
	}
	class, _ := t[1].(global)
	key, _ := t[2].(string)
	s, ok := storageTypes[class.name]
	if !ok {
		return nil, fmt.Errorf("a storage of the unknown type %s.%s", class.module, class.name)
	}
	s.key = key
	return &s, nil
}

// rebuild returns the result of a call: an ordered dict, a tensor, or an opaque object.
func rebuild(f, arguments any) (any, error) {
	g, _ := f.(global)
	args, _ := arguments.(tuple)
	switch g.module + "." + g.name {
	case "collections.OrderedDict":
		return &dict{}, nil
	case "torch._utils._rebuild_parameter":
		if len(args) > 0 {
			return args[0], nil
		}
	case "torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2":
		if len(args) < 4 {
			return nil, fmt.Errorf("a tensor of %d arguments", len(args))
		}
		s, _ := args[0].(*storage)
		offset, _ := args[1].(integer)
		shape, ok1 := integers(args[2])
		stride, ok2 := integers(args[3])
		if s == nil || !ok1 || !ok2 || len(shape) != len(stride) {
			return nil, errors.New("a tensor without storage, shape or strides")
		}
		return &tensor{s, offset.value, shape, stride}, nil
	}
	return opaque{}, nil
}

func integers(v any) ([]int64, bool) {
	t, ok := v.(tuple)
	if !ok || len(t) > 16 {
		return nil, false
	}
	out := make([]int64, len(t))
	for i, x := range t {
		n, ok := x.(integer)
		if !ok {
			return nil, false
		}
		out[i] = n.value
	}
	return out, true
}
