package route

// Reused is how many services were not worked out again since the start.
func (m *Incremental) Reused() int { return m.reused }

// Remembered is how many services and containers are known.
func (m *Incremental) Remembered() int { return len(m.parts) + len(m.holders) + m.crowded }

// SplitKey is splitKey.
var SplitKey = splitKey
