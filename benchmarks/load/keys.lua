-- Each request is a POST with an idempotency key that nobody has used.
local sent, head, tail = 0, "", ""

function init(args)
  wrk.method = "POST"
  wrk.body = '{"amount":10}'
  wrk.headers["Content-Type"] = "application/json"
  wrk.headers["Idempotency-Key"] = "@"
  head, tail = wrk.format():match("^(.-)@(.*)$")
  head = head .. os.time() .. "-" .. math.random(0, 1000000000) .. "-"
end

function request()
  sent = sent + 1
  return head .. sent .. tail
end
