package route

// Elsewhere reports whether another program acts on a key.
func Elsewhere(key string) bool { return keys[key] == elsewhere }
