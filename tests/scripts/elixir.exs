# Elixir: an agent, tasks that it starts, and messages between them.
note = fn text -> File.write!(System.get_env("STEPS_LOG"), text <> "\n", [:append]) end
{:ok, agent} = Agent.start_link(fn -> %{} end)

worker = fn name ->
  Task.async(fn ->
    Enum.reduce_while(Stream.iterate(1, &(&1 + 1)), 0, fn n, _ ->
      Agent.update(agent, &Map.put(&1, {name, n}, Enum.to_list(1..rem(n, 50)//1)))
      note.("p #{name} #{n}")
      Process.sleep(10)
      if File.exists?(System.get_env("STEPS_STOP")), do: {:halt, n}, else: {:cont, n}
    end)
  end)
end

counts = Task.await_many([worker.("one"), worker.("two")], :infinity)
seen = Agent.get(agent, & &1)
good = map_size(seen) == Enum.sum(counts) and Enum.all?(seen, fn {{_, n}, list} -> list == Enum.to_list(1..rem(n, 50)//1) end)
note.(if good, do: "DONE", else: "FAIL entry")
System.halt(if good, do: 7, else: 97)
