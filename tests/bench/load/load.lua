-- The script of wrk. The first argument selects the request; tests/bench/load/wrk.py reads the RESULT line.
--   post              POST /facade, one message of 60 characters
--   batch             POST /v1/messages, 100 such messages
--   message ID [ID…]  GET /v1/messages/ID with one of these ids
--   page ID [ID…]     GET /v1/messages, a page of 100 after one of these ids
local message = '{"msg":"a message of an ordinary length, some 60 characters."}'
local single = false
local cursors = {}

init = function(args)
  local kind = args[1]
  wrk.method = "POST"
  if kind == "post" then
    wrk.body, wrk.headers["Content-Type"] = message, "application/json"
  elseif kind == "batch" then
    wrk.body, wrk.headers["Content-Type"] = string.rep(message .. "\n", 100), "application/x-ndjson"
  else
    wrk.method, single = "GET", kind == "message"
    for i = 2, #args do cursors[i - 1] = args[i] end
  end
  wrk.path = kind == "post" and "/facade" or "/v1/messages"
end

request = function()
  local path = wrk.path
  if single then
    path = path .. "/" .. cursors[math.random(#cursors)]
  elseif #cursors > 0 then
    path = path .. "?limit=100&after=" .. cursors[math.random(#cursors)]
  end
  return wrk.format(wrk.method, path)
end

done = function(summary, latency)
  local errors = summary.errors
  io.write(string.format("RESULT %d %d %d %.3f %.3f %.3f\n", summary.requests, summary.duration,
    errors.status + errors.connect + errors.read + errors.timeout,
    latency:percentile(50) / 1000, latency:percentile(99) / 1000, latency:percentile(99.9) / 1000))
end
