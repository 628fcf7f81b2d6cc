// The scenario's client on kafkajs. The line protocol is described in ../README.md.
'use strict'

const readline = require('readline')

// Packages are installed beside what else the tests build, not into the source tree.
const library = (name) => require(require.resolve(name, { paths: [process.env.INTEROP_NODE_MODULES, __dirname] }))
const { Kafka, CompressionTypes, CompressionCodecs, Partitioners, logLevel } = library('kafkajs')
const snappy = library('snappyjs')
const lz4 = library('lz4-napi')
const { ZstdCodec } = library('zstd-codec')

const types = {
  none: CompressionTypes.None,
  gzip: CompressionTypes.GZIP,
  snappy: CompressionTypes.Snappy,
  lz4: CompressionTypes.LZ4,
  zstd: CompressionTypes.ZSTD,
}

// kafkajs leaves every codec but gzip to the application.
CompressionCodecs[CompressionTypes.Snappy] = () => ({
  compress: async (encoder) => Buffer.from(snappy.compress(encoder.buffer)),
  decompress: async (buffer) => Buffer.from(snappy.uncompress(buffer)),
})
CompressionCodecs[CompressionTypes.LZ4] = () => ({
  compress: (encoder) => lz4.compressFrame(encoder.buffer),
  decompress: (buffer) => lz4.decompressFrame(buffer),
})
const zstd = new Promise((resolve) => ZstdCodec.run((binding) => resolve(new binding.Simple())))
CompressionCodecs[CompressionTypes.ZSTD] = () => ({
  compress: async (encoder) => Buffer.from((await zstd).compress(encoder.buffer)),
  decompress: async (buffer) => Buffer.from((await zstd).decompress(buffer)),
})

const say = (...fields) => process.stdout.write(fields.join('\t') + '\n')
const fromText = (field) => (field === '-' ? null : Buffer.from(field, 'base64'))
const toText = (content) => (content == null ? '-' : Buffer.from(content).toString('base64'))

const kafka = (bootstrap) =>
  new Kafka({
    clientId: 'interop',
    brokers: [bootstrap],
    logLevel: logLevel.WARN,
    logCreator: () => (entry) => process.stderr.write(JSON.stringify(entry) + '\n'),
    retry: { initialRetryTime: 100, maxRetryTime: 1000, retries: 60 },
  })

async function withAdmin(bootstrap, act) {
  const admin = kafka(bootstrap).admin()
  await admin.connect()
  try {
    await act(admin)
  } finally {
    await admin.disconnect()
  }
}

async function produce(bootstrap, topic) {
  const byCodec = new Map()
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const [codec, partition, timestamp, key, value, headerText] = line.split('\t')
    const headers = {}
    for (const pair of headerText === '' ? [] : headerText.split(',')) {
      const [name, content] = pair.split(':')
      const header = fromText(name).toString()
      headers[header] = header in headers ? [].concat(headers[header], fromText(content)) : fromText(content)
    }
    if (!byCodec.has(codec)) byCodec.set(codec, [])
    byCodec.get(codec).push({
      partition: Number(partition),
      timestamp,
      key: fromText(key),
      value: fromText(value),
      headers,
    })
  }
  const producer = kafka(bootstrap).producer({ createPartitioner: Partitioners.DefaultPartitioner })
  await producer.connect()
  for (const [codec, messages] of byCodec) {
    // One batch a partition; its acknowledgement names the first offset, the others follow it.
    const answers = await producer.send({ topic, messages, acks: -1, compression: types[codec] })
    const next = new Map(answers.map((answer) => [answer.partition, BigInt(answer.baseOffset)]))
    for (const { partition } of messages) {
      say('acked', partition, next.get(partition))
      next.set(partition, next.get(partition) + 1n)
    }
  }
  await producer.disconnect()
}

async function consume(bootstrap, topic, groupId) {
  const consumer = kafka(bootstrap).consumer({
    groupId,
    sessionTimeout: 10000,
    heartbeatInterval: 500,
    maxWaitTimeInMs: 200,
  })
  consumer.on(consumer.events.GROUP_JOIN, ({ payload }) =>
    say('assigned', [...(payload.memberAssignment[topic] || [])].sort().join(','))
  )
  await consumer.connect()
  await consumer.subscribe({ topic, fromBeginning: true })
  await consumer.run({
    autoCommit: false,
    eachBatch: async ({ batch, resolveOffset, heartbeat }) => {
      for (const message of batch.messages) {
        const headers = Object.entries(message.headers || {}).flatMap(([name, content]) =>
          [].concat(content).map((one) => `${toText(Buffer.from(name))}:${toText(one)}`)
        )
        say('record', batch.partition, message.offset, message.timestamp, toText(message.key), toText(message.value), headers.join(','))
        resolveOffset(message.offset)
      }
      const next = String(BigInt(batch.lastOffset()) + 1n)
      await consumer.commitOffsets([{ topic, partition: batch.partition, offset: next }])
      await heartbeat()
    },
  })
  process.stdin.resume()
  await new Promise((resolve) => process.stdin.once('end', resolve))
  await consumer.disconnect()
  say('closed')
}

async function main() {
  const [command, bootstrap, topic, last] = process.argv.slice(2)
  switch (command) {
    case 'create':
      return withAdmin(bootstrap, (admin) =>
        admin.createTopics({ topics: [{ topic, numPartitions: Number(last), replicationFactor: 1 }] })
      )
    case 'delete':
      return withAdmin(bootstrap, (admin) => admin.deleteTopics({ topics: [topic] }))
    case 'offsets':
      return withAdmin(bootstrap, async (admin) => {
        for (const { partitions } of await admin.fetchOffsets({ groupId: last, topics: [topic] })) {
          for (const { partition, offset } of partitions) say('offset', partition, offset)
        }
      })
    case 'produce':
      return produce(bootstrap, topic)
    case 'consume':
      return consume(bootstrap, topic, last)
    default:
      throw new Error(`unknown command ${command}`)
  }
}

main().then(
  () => process.exit(0),
  (error) => {
    console.error(error)
    process.exit(1)
  }
)
