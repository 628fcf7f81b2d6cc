// The scenario's client on franz-go. The line protocol is described in ../README.md.
package main

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

var codecs = map[string]kgo.CompressionCodec{
	"none":   kgo.NoCompression(),
	"gzip":   kgo.GzipCompression(),
	"snappy": kgo.SnappyCompression(),
	"lz4":    kgo.Lz4Compression(),
	"zstd":   kgo.ZstdCompression(),
}

func main() {
	if err := run(os.Args[1], os.Args[2], os.Args[3], os.Args[4:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(command, bootstrap, topic string, rest []string) error {
	switch command {
	case "create":
		partitions, err := strconv.Atoi(rest[0])
		if err != nil {
			return err
		}
		return withAdmin(bootstrap, func(ctx context.Context, admin *kadm.Client) error {
			_, err := admin.CreateTopic(ctx, int32(partitions), 1, nil, topic)
			return err
		})
	case "delete":
		return withAdmin(bootstrap, func(ctx context.Context, admin *kadm.Client) error {
			_, err := admin.DeleteTopic(ctx, topic)
			return err
		})
	case "offsets":
		return withAdmin(bootstrap, func(ctx context.Context, admin *kadm.Client) error {
			committed, err := admin.FetchOffsets(ctx, rest[0])
			if err != nil {
				return err
			}
			for partition, offset := range committed[topic] {
				if offset.Err != nil {
					return offset.Err
				}
				say("offset", partition, offset.At)
			}
			return nil
		})
	case "produce":
		return produce(bootstrap, topic)
	case "consume":
		return consume(bootstrap, topic, rest[0])
	}
	return fmt.Errorf("unknown command %q", command)
}

func withAdmin(bootstrap string, do func(context.Context, *kadm.Client) error) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(bootstrap))
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	return do(ctx, kadm.NewClient(client))
}

func produce(bootstrap, topic string) error {
	var order []string
	byCodec := map[string][]*kgo.Record{}
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		field := strings.Split(lines.Text(), "\t")
		record, err := parse(field)
		if err != nil {
			return err
		}
		if _, known := byCodec[field[0]]; !known {
			order = append(order, field[0])
		}
		byCodec[field[0]] = append(byCodec[field[0]], record)
	}
	if err := lines.Err(); err != nil {
		return err
	}
	for _, codec := range order {
		client, err := kgo.NewClient(
			kgo.SeedBrokers(bootstrap),
			kgo.DefaultProduceTopic(topic),
			kgo.RecordPartitioner(kgo.ManualPartitioner()),
			kgo.RequiredAcks(kgo.AllISRAcks()),
			kgo.ProducerLinger(20*time.Millisecond),
			kgo.ProducerBatchCompression(codecs[codec]),
		)
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
		results := client.ProduceSync(ctx, byCodec[codec]...)
		cancel()
		client.Close()
		if err := results.FirstErr(); err != nil {
			return err
		}
		for _, record := range byCodec[codec] {
			say("acked", record.Partition, record.Offset)
		}
	}
	return nil
}

func parse(field []string) (*kgo.Record, error) {
	partition, err := strconv.ParseInt(field[1], 10, 32)
	if err != nil {
		return nil, err
	}
	timestamp, err := strconv.ParseInt(field[2], 10, 64)
	if err != nil {
		return nil, err
	}
	record := &kgo.Record{Partition: int32(partition), Timestamp: time.UnixMilli(timestamp)}
	if record.Key, err = fromText(field[3]); err != nil {
		return nil, err
	}
	if record.Value, err = fromText(field[4]); err != nil {
		return nil, err
	}
	if field[5] != "" {
		for _, header := range strings.Split(field[5], ",") {
			key, value, _ := strings.Cut(header, ":")
			name, err := fromText(key)
			if err != nil {
				return nil, err
			}
			content, err := fromText(value)
			if err != nil {
				return nil, err
			}
			record.Headers = append(record.Headers, kgo.RecordHeader{Key: string(name), Value: content})
		}
	}
	return record, nil
}

func consume(bootstrap, topic, group string) error {
	ctx, stop := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // The end of the input, however it comes, means stop.
		stop()
	}()

	var lock sync.Mutex
	assigned := map[int32]bool{}
	change := func(to bool) func(context.Context, *kgo.Client, map[string][]int32) {
		return func(_ context.Context, _ *kgo.Client, partitions map[string][]int32) {
			lock.Lock()
			defer lock.Unlock()
			for _, partition := range partitions[topic] {
				if to {
					assigned[partition] = true
				} else {
					delete(assigned, partition)
				}
			}
			var list []int
			for partition := range assigned {
				list = append(list, int(partition))
			}
			slices.Sort(list)
			say("assigned", strings.Trim(strings.ReplaceAll(fmt.Sprint(list), " ", ","), "[]"))
		}
	}
	client, err := kgo.NewClient(
		kgo.SeedBrokers(bootstrap),
		kgo.ConsumeTopics(topic),
		kgo.ConsumerGroup(group),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.DisableAutoCommit(),
		kgo.SessionTimeout(10*time.Second),
		kgo.HeartbeatInterval(500*time.Millisecond),
		kgo.FetchMaxWait(200*time.Millisecond),
		kgo.OnPartitionsAssigned(change(true)),
		kgo.OnPartitionsRevoked(change(false)),
		kgo.OnPartitionsLost(change(false)),
	)
	if err != nil {
		return err
	}
	for ctx.Err() == nil {
		fetches := client.PollFetches(ctx)
		fetches.EachError(func(_ string, _ int32, err error) {
			if !errors.Is(err, context.Canceled) {
				fmt.Fprintln(os.Stderr, "fetch:", err)
			}
		})
		if fetches.NumRecords() == 0 {
			continue
		}
		fetches.EachRecord(func(record *kgo.Record) {
			var headers []string
			for _, header := range record.Headers {
				headers = append(headers, toText([]byte(header.Key))+":"+toText(header.Value))
			}
			say("record", record.Partition, record.Offset, record.Timestamp.UnixMilli(),
				toText(record.Key), toText(record.Value), strings.Join(headers, ","))
		})
		if err := client.CommitUncommittedOffsets(ctx); err != nil {
			var moved *kerr.Error
			if !errors.As(err, &moved) && ctx.Err() == nil {
				return err
			}
			fmt.Fprintln(os.Stderr, "not committed:", err)
		}
	}
	client.Close()
	say("closed")
	return nil
}

func fromText(field string) ([]byte, error) {
	if field == "-" {
		return nil, nil
	}
	decoded, err := base64.StdEncoding.DecodeString(field)
	if decoded == nil {
		decoded = []byte{}
	}
	return decoded, err
}

func toText(content []byte) string {
	if content == nil {
		return "-"
	}
	return base64.StdEncoding.EncodeToString(content)
}

var output sync.Mutex

func say(fields ...any) {
	output.Lock()
	defer output.Unlock()
	words := make([]string, len(fields))
	for i, field := range fields {
		words[i] = fmt.Sprint(field)
	}
	fmt.Println(strings.Join(words, "\t"))
}
