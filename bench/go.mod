module orbit/bench

go 1.24

require (
	github.com/anishathalye/porcupine v1.3.1
	orbit v0.0.0
)

replace orbit => ../
