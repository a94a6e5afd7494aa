module k3sup

go 1.19
