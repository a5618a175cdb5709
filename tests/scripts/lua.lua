-- A coroutine; each step opens the log anew. Rests by computing: plain Lua cannot sleep.
local function note(text)
  local f = assert(io.open(os.getenv("STEPS_LOG"), "a"))
  f:write(text, "\n")
  f:close()
end
local function stopping()
  local f = io.open(os.getenv("STEPS_STOP"))
  if f then f:close() end
  return f ~= nil
end
local counter = coroutine.wrap(function()
  local n = 0
  while true do n = n + 1; coroutine.yield(n) end
end)
local sum, n = 0, 0
while not stopping() do
  n = counter()
  sum = sum + n
  note("p main " .. n)
  local x = 0
  for i = 1, 300000 do x = x + i % 7 end
end
note(sum == n * (n + 1) // 2 and "DONE" or "FAIL sum")
os.exit(7)
