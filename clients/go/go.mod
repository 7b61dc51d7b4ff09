module injector

go 1.19
