-- GHC's threaded run time: green threads on several cores, an MVar, a delay from its timer manager, a blocking foreign call.
import Control.Concurrent
import Control.Exception (evaluate)
import Control.Monad
import Foreign.C.Types
import System.Environment (getEnv)
import System.Exit
import System.IO
import System.Posix.Files (fileExist)
import System.Posix.Process (exitImmediately)

foreign import ccall safe "usleep" c_usleep :: CUInt -> IO CInt

main :: IO ()
main = do
  path <- getEnv "STEPS_LOG"
  stop <- getEnv "STEPS_STOP"
  lock <- newMVar ()
  let note text = withMVar lock $ \_ -> withFile path AppendMode $ \h -> hPutStrLn h text
      worker name rest = do
        result <- newEmptyMVar
        let loop n seen = do
              note ("p " ++ name ++ " " ++ show n)
              total <- evaluate (sum [1 .. n])
              rest
              ended <- fileExist stop
              if ended then putMVar result (reverse (total : seen)) else loop (n + 1) (total : seen)
        _ <- forkIO (loop (1 :: Integer) [])
        return result
  delayed <- worker "delayed" (threadDelay 10000)
  blocking <- worker "blocking" (void (c_usleep 10000))
  computing <- worker "computing" (void (evaluate (length (show (product [1 .. 2000 :: Integer])))))
  lists <- mapM takeMVar [delayed, blocking, computing]
  let good = all (\l -> l == [sum [1 .. n] | n <- [1 .. fromIntegral (length l)]]) lists
  note (if good then "DONE" else "FAIL sums")
  exitImmediately (ExitFailure (if good then 7 else 97))
