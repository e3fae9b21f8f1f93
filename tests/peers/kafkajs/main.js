// Peer tests of kafkajs. usage: main.js BROKER CONTROL_URL rivulet|kafka [TEST]     (the runner's kit.py says what it prints)
'use strict'
const http = require('http')
const { Kafka, CompressionTypes, CompressionCodecs, logLevel } = require('kafkajs')
const snappy = require('kafkajs-snappy')
const lz4 = require('lz4-napi')
const zstd = require('@bokuweb/zstd-wasm')

const [broker, control, kind, only = ''] = process.argv.slice(2)
// Times of records: of the past, which must not matter to what a broker knows of their producer. To Kafka they do: it takes
// the newest for the producer's last use, and forgets the producer when it is killed and starts again.
const BASE_MS = kind === 'rivulet' ? 1767225600000 : Date.now()
const LIMIT_MS = 60000
const CODECS = { none: CompressionTypes.None, gzip: CompressionTypes.GZIP, snappy: CompressionTypes.Snappy, lz4: CompressionTypes.LZ4,
  zstd: CompressionTypes.ZSTD }
const ACKS = { 0: 0, 1: 1, all: -1 }
let checks = 0
let failed = 0

CompressionCodecs[CompressionTypes.Snappy] = snappy
CompressionCodecs[CompressionTypes.LZ4] = () => ({
  compress: encoder => lz4.compressFrame(encoder.buffer),
  decompress: buffer => lz4.decompressFrame(buffer),
})
CompressionCodecs[CompressionTypes.ZSTD] = () => ({
  compress: async encoder => Buffer.from(zstd.compress(encoder.buffer)),
  decompress: async buffer => Buffer.from(zstd.decompress(buffer)),
})

const kafka = new Kafka({ brokers: [broker], clientId: 'peers', logLevel: logLevel.ERROR, requestTimeout: 20000,
  retry: { initialRetryTime: 50, maxRetryTime: 500, retries: 60 } })
const admin = kafka.admin()

function that(holds, text) {
  if (!holds) throw new Error(text)
}

function same(want, got, what) {
  const [a, b] = [JSON.stringify(want), JSON.stringify(got)]
  that(a === b, `${what}: want ${a?.slice(0, 300)}, got ${b?.slice(0, 300)}`)
}

async function until(what, holds) {
  const end = Date.now() + LIMIT_MS
  while (!(await holds())) {
    that(Date.now() < end, `not within ${LIMIT_MS} ms: ${what}`)
    await new Promise(done => setTimeout(done, 10))
  }
}

async function fails(type, promise, what) {
  try {
    await promise
  } catch (e) {
    const seen = [e.type, e.cause?.type, ...(e.errors ?? e.groups ?? []).map(x => x.type ?? x.error?.type)]
    that(seen.includes(type), `${what}: want ${type}, got ${e} ${seen}`)
    return
  }
  throw new Error(`${what}: want ${type}, but it succeeded`)
}

async function check(name, body) {
  if (!name.includes(only)) return
  checks++
  const began = Date.now()
  const seconds = () => ((Date.now() - began) / 1000).toFixed(1)
  try {
    await body()
    console.log(`ok ${name} (${seconds()} s)`)
  } catch (e) {
    failed++
    console.log(`not ok ${name} (${seconds()} s) | ${String(e).replaceAll('\n', ' ')}`)
    for (const line of (e.stack ?? '').split('\n').filter(x => x.includes('main.js'))) console.log(`# ${line.trim()}`)
  }
}

function restart(how) {
  return new Promise((done, broken) => {
    http.get(`${control}/${how}`, answer => {
      let text = ''
      answer.on('data', part => (text += part))
      answer.on('end', () => (answer.statusCode === 200 ? done() : broken(new Error(text))))
    }).on('error', broken)
  })
}

async function create(topic, partitions, configEntries = []) {
  await admin.createTopics({ topics: [{ topic, numPartitions: partitions, configEntries }] })
  // In Kafka a topic is created before its partitions have a leader that answers.
  await until("the topic's partitions are led", () => admin.fetchTopicOffsets(topic).then(ends => ends.length === partitions, () => false))
}

const value = n => `${String(n).padStart(7, '0')} ${'words that come again; '.repeat(1 + (n % 9))}`
const number = message => Number(message.value.toString().split(' ')[0])
const record = (n, partitions) => ({ key: `key-${n % 17}`, value: value(n), partition: n % partitions, timestamp: String(BASE_MS + n * 1000),
  headers: { n: String(n), twice: ['a', 'b'] } })
const range = (first, count) => Array.from({ length: count }, (_, i) => first + i)

async function send(producer, topic, partitions, first, count, codec = 'none', acks = 'all') {
  return producer.send({ topic, acks: ACKS[acks], compression: CODECS[codec], messages: range(first, count).map(n => record(n, partitions)) })
}

async function produce(topic, partitions, first, count) {
  const producer = kafka.producer()
  await producer.connect()
  await send(producer, topic, partitions, first, count)
  await producer.disconnect()
}

// A member of a group. It commits each record before the next.
class Member {
  constructor(group, topic) {
    this.group = group
    this.topic = topic
    this.read = [] // [partition, offset, number]
    this.owned = []
    this.crash = null
  }

  static async join(group, topic, fromBeginning = true) {
    const m = new Member(group, topic)
    m.consumer = kafka.consumer({ groupId: group, sessionTimeout: 10000, heartbeatInterval: 200, maxWaitTimeInMs: 50,
      metadataMaxAge: 1000 })
    m.consumer.on(m.consumer.events.GROUP_JOIN, e => (m.owned = e.payload.memberAssignment[topic] ?? []))
    m.consumer.on(m.consumer.events.CRASH, e => (m.crash = e.payload.restart ? m.crash : e.payload.error))
    await m.consumer.connect()
    await m.consumer.subscribe({ topics: [topic], fromBeginning })
    await m.consumer.run({
      autoCommit: false,
      eachMessage: async ({ partition, message }) => {
        m.messages?.push({ partition, ...message })
        m.read.push([partition, Number(message.offset), number(message)])
        await m.consumer.commitOffsets([{ topic, partition, offset: String(Number(message.offset) + 1) }])
      },
    })
    return m
  }

  async leave() {
    await this.consumer.disconnect()
    that(!this.crash, `a member failed: ${this.crash}`)
  }
}

const numbers = members => members.flatMap(m => m.read.map(r => r[2])).sort((a, b) => a - b)

async function untilRead(count, ...members) {
  await until(`${count} records read by the group`, () => {
    members.forEach(m => that(!m.crash, `a member failed: ${m.crash}`))
    return numbers(members).length >= count
  })
}

async function untilShared(partitions, ...members) {
  await until(`${members.length} members share ${partitions} partitions`, () => {
    const owned = members.flatMap(m => m.owned)
    return owned.length === partitions && new Set(owned).size === partitions && members.every(m => m.owned.length > 0)
  })
}

function once(count, ...members) {
  same(range(0, count), numbers(members), 'records read by the group, sorted')
  for (const m of members) {
    const last = {}
    for (const [partition, offset] of m.read) {
      that((last[partition] ?? -1) < offset, `partition ${partition} goes back to ${offset}`)
      last[partition] = offset
    }
  }
}

// Reads a topic from its start: records 0..count-1, each once, each in its partition at its place, unchanged.
async function assertOnce(topic, partitions, count) {
  const got = range(0, partitions).map(() => [])
  const c = kafka.consumer({ groupId: `reader-of-${topic}`, maxWaitTimeInMs: 50 })
  await c.connect()
  await c.subscribe({ topics: [topic], fromBeginning: true })
  await c.run({ eachMessage: async ({ partition, message }) => got[partition].push(message) })
  await until(`${count} records of ${topic}`, () => got.flat().length >= count)
  await c.disconnect()
  for (const [partition, part] of got.entries()) {
    same(range(0, part.length), part.map(m => Number(m.offset)), `offsets of ${topic}-${partition}`)
    same(range(0, count).filter(n => n % partitions === partition), part.map(number), `records of ${topic}-${partition}`)
    for (const m of part) {
      const want = record(number(m), partitions)
      same([want.key, want.value, want.timestamp, { n: want.headers.n, twice: ['a', 'b'] }],
        [m.key.toString(), m.value.toString(), m.timestamp, { n: m.headers.n.toString(), twice: m.headers.twice.map(String) }], 'a record')
    }
  }
  const ends = await admin.fetchTopicOffsets(topic)
  same(count, ends.reduce((sum, at) => sum + Number(at.high), 0), 'sum of the end offsets')
}

// ---- tests

async function roundTrip(codec, acks) {
  const topic = `kafkajs-codec-${codec}-${acks}`
  await create(topic, 3)
  const producer = kafka.producer()
  await producer.connect()
  for (const first of range(0, 5).map(n => n * 60)) await send(producer, topic, 3, first, 60, codec, acks)
  await producer.disconnect()
  await assertOnce(topic, 3, 300)
}

async function idempotent() {
  const topic = 'kafkajs-idempotent'
  await create(topic, 4)
  const producer = kafka.producer({ idempotent: true, maxInFlightRequests: 1 })
  await producer.connect()
  for (let n = 0; n < 5000; n += 100) await send(producer, topic, 4, n, 100)
  await producer.disconnect()
  await assertOnce(topic, 4, 5000)
}

async function times() {
  const topic = 'kafkajs-times'
  await create(topic, 1)
  await produce(topic, 1, 0, 200)
  for (const n of [0, 1, 99, 199]) {
    for (const early of [0, 1, 999]) {
      const [at] = await admin.fetchTopicOffsetsByTimestamp(topic, BASE_MS + n * 1000 - early)
      same(String(n), at.offset, `offset of the time of record ${n} less ${early} ms`)
    }
  }
  const m = await Member.join(topic, topic)
  await untilRead(200, m)
  const [at] = await admin.fetchTopicOffsetsByTimestamp(topic, BASE_MS + 150000)
  m.consumer.seek({ topic, partition: 0, offset: at.offset })
  await untilRead(250, m)
  same(range(150, 50), m.read.slice(200).map(r => r[2]), 'records after the seek')
  await m.leave()
}

async function group() {
  const topic = 'kafkajs-group'
  const parts = 6
  await create(topic, parts)
  await produce(topic, parts, 0, 120)
  const one = await Member.join(topic, topic)
  await untilRead(120, one)
  const two = await Member.join(topic, topic)
  const three = await Member.join(topic, topic)
  await untilShared(parts, one, two, three)
  await produce(topic, parts, 120, 300)
  await untilRead(420, one, two, three)
  that(two.read.length > 0 && three.read.length > 0, 'a member that owns partitions read nothing')
  await one.leave()
  await untilShared(parts, two, three)
  await produce(topic, parts, 420, 120)
  await untilRead(540, one, two, three)
  await two.leave()
  await three.leave()
  const four = await Member.join(topic, topic)
  await produce(topic, parts, 540, 60)
  await untilRead(600, one, two, three, four)
  await four.leave()
  once(600, one, two, three, four)
  const [offsets] = await admin.fetchOffsets({ groupId: topic, topics: [topic] })
  same(range(0, parts).map(() => '100'), offsets.partitions.map(p => p.offset), 'committed offsets')
}

async function admins() {
  const topic = 'kafkajs-admin'
  await create(topic, 2, [{ name: 'retention.ms', value: '3600000' }])
  same(false, await admin.createTopics({ topics: [{ topic, numPartitions: 2 }] }), 'creating it again')
  that((await admin.listTopics()).includes(topic), 'the topic is not listed')
  const { topics } = await admin.fetchTopicMetadata({ topics: [topic] })
  same([0, 1], topics[0].partitions.map(p => p.partitionId).sort(), 'partitions')
  const setting = async name => {
    const d = await admin.describeConfigs({ includeSynonyms: false, resources: [{ type: 2, name: topic, configNames: [name] }] })
    return d.resources[0].configEntries.find(e => e.configName === name)?.configValue
  }
  same('3600000', await setting('retention.ms'), 'setting given at creation')
  await admin.alterConfigs({ validateOnly: false, resources: [{ type: 2, name: topic, configEntries: [{ name: 'max.message.bytes', value: '2000' }] }] })
  same('2000', await setting('max.message.bytes'), 'setting that was altered')
  that((await setting('retention.ms')) !== '3600000', 'AlterConfigs keeps what it does not name')
  const producer = kafka.producer({ retry: { retries: 0 } })
  await producer.connect()
  await fails('MESSAGE_TOO_LARGE', producer.send({ topic, messages: [{ value: 'x'.repeat(5000) }] }), 'a record over max.message.bytes')
  await producer.disconnect()
  const cluster = await admin.describeCluster()
  same(broker, `${cluster.brokers[0].host}:${cluster.brokers[0].port}`, 'address of the broker')
  await produce(topic, 2, 0, 10)
  const m = await Member.join(topic, topic)
  await untilRead(10, m)
  const described = (await admin.describeGroups([topic])).groups[0]
  same(['Stable', 'RoundRobinAssigner', 1], [described.state, described.protocol, described.members.length], 'the group')
  await fails('NON_EMPTY_GROUP', admin.deleteGroups([topic]), 'deleting a live group')
  await m.leave()
  that((await admin.listGroups()).groups.some(g => g.groupId === topic), 'the group is not listed')
  await admin.setOffsets({ groupId: topic, topic, partitions: [{ partition: 0, offset: '3' }] })
  same('3', (await admin.fetchOffsets({ groupId: topic, topics: [topic] }))[0].partitions.find(p => p.partition === 0).offset, 'offset that was set')
  await admin.resetOffsets({ groupId: topic, topic, earliest: true })
  const again = await Member.join(topic, topic)
  await untilRead(10, again)
  await again.leave()
  await admin.deleteGroups([topic])
  that(!(await admin.listGroups()).groups.some(g => g.groupId === topic), 'the deleted group is listed')
  await admin.deleteTopics({ topics: [topic] })
  await until('the topic is gone', async () => !(await admin.listTopics()).includes(topic))
}

// A producer and two members go on while the broker goes away and comes back three times.
async function live(how) {
  const topic = `kafkajs-restart-${how}`
  const [parts, turns, each] = [3, 3, 300]
  await create(topic, parts)
  const producer = kafka.producer({ idempotent: true, maxInFlightRequests: 1 })
  await producer.connect()
  const members = [await Member.join(topic, topic), await Member.join(topic, topic)]
  await untilShared(parts, ...members)
  const floor = {}
  for (let turn = 0; turn < turns; turn++) {
    const first = turn * each
    await send(producer, topic, parts, first, 30, 'gzip')
    const restarted = restart(how) // one send after the other meanwhile: what is sent at once kafkajs retries in any order
    for (const i of range(1, 9)) await send(producer, topic, parts, first + i * 30, 30)
    await restarted
    await until('all that was sent so far has been read', () => new Set(numbers(members)).size >= (turn + 1) * each)
    const [offsets] = await admin.fetchOffsets({ groupId: topic, topics: [topic] })
    for (const { partition, offset } of offsets.partitions) {
      that(Number(offset) >= (floor[partition] ?? 0), `the offset of ${partition} went back from ${floor[partition]} to ${offset}`)
      floor[partition] = Number(offset)
    }
  }
  for (const m of members) await m.leave()
  await producer.disconnect()
  await assertOnce(topic, parts, turns * each)
}

async function main() {
  await zstd.init()
  await admin.connect()
  for (const codec of Object.keys(CODECS)) {
    for (const acks of Object.keys(ACKS)) await check(`produce ${codec} acks=${acks}, read back`, () => roundTrip(codec, acks))
  }
  await check('idempotent producer: 5,000 records in order, once', idempotent)
  await check('offsets of times, seek', times)
  await check('group: members join and leave', group)
  await check('admin: topics, settings, groups, offsets', admins)
  await check('clients live through SIGTERM of the broker', () => live('term'))
  await check('clients live through kill -9 of the broker', () => live('kill'))
  console.log(`done ${checks}`)
  process.exit(failed ? 1 : 0)
}

process.on('unhandledRejection', e => {
  console.error(e)
  process.exit(2)
})
main()
