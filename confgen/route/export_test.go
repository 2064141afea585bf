package route

// Keys is the vocabulary, for tests that must leave none of it out.
var Keys = sortedKeys

// Elsewhere reports whether another program acts on a key.
func Elsewhere(key string) bool { return keys[key] == elsewhere }
