// Package docs holds what the documents say to what the code does. It has
// tests only.
package docs
