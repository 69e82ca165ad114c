module orbit

go 1.24
