// Package litmus checks that Orbit's protocols hold on weakly ordered memory.
package litmus
