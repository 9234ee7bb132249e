module example.com/accelerate

go 1.26
