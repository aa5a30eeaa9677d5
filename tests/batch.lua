-- For wrk: POST 100 messages of 60 characters in each request; one line as post.lua prints it.
local lines = {}
for i = 1, 100 do lines[i] = '{"msg":"a message of an ordinary length, some 60 characters."}' end
wrk.method = "POST"
wrk.body = table.concat(lines, "\n")
wrk.headers["Content-Type"] = "application/x-ndjson"
done = function(summary, latency)
  local errors = summary.errors
  io.write(string.format("RESULT %d %d %d %.3f %.3f %.3f\n", summary.requests, summary.duration,
    errors.status + errors.connect + errors.read + errors.timeout,
    latency:percentile(50) / 1000, latency:percentile(99) / 1000, latency:percentile(99.9) / 1000))
end
