// A proxy of nothing but the Node core: what stays when Fastify and its plugins are not installed.
const http = require('node:http')

const [port, upstream] = process.argv.slice(2)
const { hostname, port: upstreamPort } = new URL(upstream)
const agent = new http.Agent({ keepAlive: true, maxSockets: 256 })

http.createServer((request, response) => {
  const { connection, 'keep-alive': _, ...headers } = request.headers
  const forwarded = http.request(
    { agent, hostname, port: upstreamPort, method: request.method, path: request.url, headers },
    (answer) => {
      response.writeHead(answer.statusCode, answer.headers)
      answer.pipe(response)
    }
  )
  forwarded.on('error', () => {
    if (!response.headersSent) response.writeHead(502)
    response.end()
  })
  request.pipe(forwarded)
}).listen(Number(port), '127.0.0.1')
