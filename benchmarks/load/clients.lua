-- Arguments: number of clients, "random" or "each". "each" lets every client send one request, then stops.
local total, each, sent = 0, false, 0
local head, tail = "", ""

function init(args)
  total = tonumber(args[1])
  each = args[2] == "each"
  math.randomseed(os.time())
  wrk.headers["X-Forwarded-For"] = "@"
  -- Formatted once: only the address differs, and formatting would cost the generator more than sending.
  head, tail = wrk.format():match("^(.-)@(.*)$")
end

function request()
  local client
  if each then
    client = sent
    sent = sent + 1
    -- A few more than needed are on their way by then; they are clients that were there already.
    if client >= total then
      client = client % total
      wrk.thread:stop()
    end
  else
    client = math.random(0, total - 1)
  end
  local address = "10." .. math.floor(client / 65536) .. "." .. math.floor(client / 256) % 256 .. "." .. client % 256
  return head .. address .. tail
end
