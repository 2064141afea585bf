package service

import (
	"fmt"
	"strings"
)

// defaultName is what a container's rows are called when nobody said: the Swarm service it is a
// task of, else the last part of its image's name. An image that is a bare id says nothing to
// anyone, so a tag of it, the Compose service or the container's own name stand in.
func defaultName(c *Container) (name, why string) {
	if c.Task.ServiceName != "" {
		return c.Task.ServiceName, "the Swarm service"
	}
	if c.Image != "" && !isBareID(c) {
		if name := imageName(c.Image); name != "" {
			return name, "the image " + c.Image
		}
	}
	for _, tag := range c.RepoTags {
		if name := imageName(tag); name != "" && name != "<none>" {
			return name, "the image's tag " + tag
		}
	}
	if name := c.Labels["com.docker.compose.service"]; name != "" {
		return name, "the Compose service"
	}
	return c.Name, "the container's name"
}

// imageName is the last path element of an image reference without tag and digest.
func imageName(image string) string {
	image, _, _ = strings.Cut(image, "@")
	image = image[strings.LastIndexByte(image, '/')+1:]
	image, _, _ = strings.Cut(image, ":")
	return image
}

// isBareID tells an image id from a name. People also start containers by the first few digits of
// an id: such a "name" is told by the image having tags of which none is called so.
func isBareID(c *Container) bool {
	if strings.HasPrefix(c.Image, "sha256:") {
		return true
	}
	if strings.Trim(c.Image, "0123456789abcdef") != "" {
		return false
	}
	for _, tag := range c.RepoTags {
		if imageName(tag) == c.Image {
			return false
		}
	}
	return len(c.Image) >= 12 || len(c.RepoTags) > 0
}

// maxText is the longest name or ID accepted: what a DNS name and a file name can hold.
const maxText = 255

// refuseName says why a text cannot name a service, be its ID or an alias; empty when it can.
func refuseName(s string) string {
	if why := refuseText(s); why != "" {
		return why
	}
	if len(s) > maxText {
		return fmt.Sprintf("is longer than %d characters", maxText)
	}
	return ""
}

// inDNS reports whether Consul's DNS interface can find a service of this name. The rule is
// Consul's own: letters, digits and hyphens, at most 63 of them.
func inDNS(name string) bool {
	const allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-"
	return len(name) <= 63 && strings.Trim(name, allowed) == ""
}
