# Two Ruby threads and a fiber.
$lock = Mutex.new

def note(text)
  $lock.synchronize { File.open(ENV['STEPS_LOG'], 'a') { |f| f.write(text + "\n") } }
end

counter = Fiber.new do
  n = 0
  loop { Fiber.yield(n += 1) }
end
other = Thread.new do
  n = 0
  until File.exist?(ENV['STEPS_STOP'])
    note("p other #{n += 1}")
    sleep 0.01
  end
  n
end
until File.exist?(ENV['STEPS_STOP'])
  note("p main #{counter.resume}")
  sleep 0.01
end
note(other.value > 0 ? 'DONE' : 'FAIL the other thread did nothing')
exit! 7
