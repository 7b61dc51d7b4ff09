package injector_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"injector"
)

// A program without the package testing. Without an output to compare it is compiled, and not run.
func Example() {
	ctx := context.Background()
	client := injector.New("")
	if _, err := client.WaitHealthy(ctx, time.Minute); err != nil {
		log.Fatal(err)
	}
	partition, err := client.Partition(ctx, injector.Cut{
		Shape:  injector.Isolate("n1"),
		Scopes: []string{"tcp/5122"},
		For:    time.Minute,
	})
	var refused *injector.Error
	if errors.As(err, &refused) {
		log.Fatalf("%s (field %s): %s; %s", refused.Code, refused.Field, refused.Detail, refused.Remedy)
	}
	defer partition.Close()

	time.Sleep(time.Second) // what is to be tested

	record, err := partition.Recovers(ctx, 20*time.Second)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(time.Duration(*record.HealToSettledNs))
}
