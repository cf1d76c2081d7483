// Fastify with the proxy and the rate limit that its documentation suggests, on Redis.
const fastify = require('fastify')({ logger: false, trustProxy: true, bodyLimit: 1 << 30 })
const Redis = require('ioredis')

const [port, upstream, redisPort] = process.argv.slice(2)

async function main () {
  await fastify.register(require('@fastify/rate-limit'), {
    max: 1_000_000_000,
    timeWindow: '1 minute',
    redis: new Redis({ host: '127.0.0.1', port: Number(redisPort) })
  })
  await fastify.register(require('@fastify/http-proxy'), {
    upstream
  })
  await fastify.listen({ host: '127.0.0.1', port: Number(port) })
}

main()
