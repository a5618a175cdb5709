;; SBCL: compiled code in its own heap, fixed addresses, a moving collector.
(defun note (text)
  (with-open-file (log (sb-posix:getenv "STEPS_LOG") :direction :output :if-exists :append :if-does-not-exist :create)
    (write-line text log)))
(defvar *seen* (make-hash-table))
(loop with n = 0
      until (probe-file (sb-posix:getenv "STEPS_STOP"))
      do (incf n)
         (setf (gethash n *seen*) (make-list 1000 :initial-element n))
         (note (format nil "p main ~d" n))
         (sleep 0.01)
      finally (sb-ext:gc :full t)
              (loop for k from 1 to n
                    unless (= (reduce #'+ (gethash k *seen*)) (* 1000 k))
                      do (note "FAIL entry") (sb-ext:exit :code 97 :abort t))
              (note "DONE")
              (sb-ext:exit :code 7 :abort t))
